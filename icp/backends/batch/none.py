"""A host without a batch system: pilots are started detached, and known by pid, start time and boot (hides `launch`, `ps` and `kill`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from icp.backends.base import Unknown
from icp.backends.batch import Answers
from icp.errors import BadInput
from icp.model.batch import Captured, Known, NotSubmitted, Submitted, Unclear, Wanted

__all__ = ["NoBatch"]

_PILOT = ["{python}", "-I", "-S", "{program}"]


class NoBatch:
    """The program itself starts pilots, lists and ends them."""

    name = "none"
    body = "submit.sh"

    def check(self, wanted: Wanted) -> None:
        asked = [one for one in ("partition", "account", "qos", "constraint") if getattr(wanted, one) is not None]
        asked += [f"options.{one}" for one in wanted.options]
        if wanted.nodes != 1:
            asked.append("nodes")
        if asked:
            raise BadInput(f"pilot.{', pilot.'.join(asked)}: a site without a batch system has none", "remove it, or set scheduler")

    def render(self, wanted: Wanted) -> Captured:
        self.check(wanted)
        return Captured((*_PILOT, "launch", "{dir}"), {})

    def receipt(self, code: int | None, out: str, err: str, options: Mapping[str, Any]) -> Submitted | NotSubmitted | Unclear:  # noqa: ARG002
        lines = out.strip().splitlines()
        if code == 0 and lines:
            return Submitted(lines[-1][:200])
        if code is None:
            return Unclear("the host did not start it in time")
        said = (err.strip() or out.strip() or f"exit {code}").splitlines()[-1][:500]
        return NotSubmitted(f"it could not be started: {said}", "look at the pilot's folder there", again=True)

    def cancel(self, name: str, jobs: Sequence[str], options: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        return [*_PILOT, "kill", "{dir}"]

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:  # noqa: ARG002
        return [[*_PILOT, "ps", "{spool}/pilots"]]

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:  # noqa: ARG002
        if not answers or answers[0][0] != 0:
            return Unknown("the host could not be asked for its processes")
        found: dict[str, Known] = {}
        for line in answers[0][1].splitlines():
            try:
                row = json.loads(line)
                found[str(row["pilot"])] = Known(str(row["state"]), exit=row["exit"], job=str(row["id"]))
            except (ValueError, KeyError, TypeError):
                return Unknown("the list of the host's processes cannot be read")
        return found
