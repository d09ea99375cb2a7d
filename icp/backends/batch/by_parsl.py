"""What all batch systems share whose pilots Parsl renders: submit and cancel (hides that Parsl is imported only where a pilot needs it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from icp.model.batch import Captured, NotSubmitted, Submitted, Unclear, Wanted

__all__ = ["ByParsl"]


class ByParsl:
    """The half of a BatchSystem that a provider of Parsl's does; the other half asks for jobs."""

    name: ClassVar[str]
    body = "pilot.sh"

    def check(self, wanted: Wanted) -> None:
        from icp.backends import parsl_provider

        parsl_provider.check(self.name, wanted)

    def render(self, wanted: Wanted) -> Captured:
        from icp.backends import parsl_provider

        return parsl_provider.render(self.name, wanted)

    def receipt(self, code: int | None, out: str, err: str, options: Mapping[str, Any]) -> Submitted | NotSubmitted | Unclear:
        from icp.backends import parsl_provider

        return parsl_provider.job_id(self.name, code, out, err, options)

    def cancel(self, name: str, jobs: Sequence[str], options: Mapping[str, Any]) -> list[str]:
        from icp.backends import parsl_provider

        if jobs:
            return parsl_provider.cancel_argv(self.name, jobs, options)
        return parsl_provider.cancel_name_argv(name, self.name)
