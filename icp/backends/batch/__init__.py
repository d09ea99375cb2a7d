"""The batch systems, one class each behind one protocol: asked by one command for all pilots, driven by orders (hides which is which)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from icp.backends.base import Unknown
from icp.errors import BadInput
from icp.model.batch import Captured, Known, NotSubmitted, Submitted, Unclear, Wanted

__all__ = ["GROUP", "Answers", "BatchSystem", "system"]

Answers = Sequence[tuple[int | None, str, str]]
"""(exit code or None where it did not end in time, stdout, stderr) of each question, in their order."""


class BatchSystem(Protocol):
    """How pilots become jobs of one kind of batch system. Nothing here runs a command or sees a network.

    Commands are lists of words that an exchange runs at the site, with ``{python}``, ``{program}``, ``{spool}`` and ``{dir}``
    (the pilot's folder) replaced there.
    """

    name: str
    body: str
    """The name that the pilot's script has in its folder."""

    def check(self, wanted: Wanted) -> None:
        """BadInput with every mistake: unknown options with all names, values that could be more than one word."""

    def render(self, wanted: Wanted) -> Captured:
        """The files and the command that submit a pilot, whose script lies beside them; the same for the same Wanted. BadInput as ``check``."""

    def receipt(self, code: int | None, out: str, err: str, options: Mapping[str, Any]) -> Submitted | NotSubmitted | Unclear:
        """What the command of ``render`` printed means."""

    def cancel(self, name: str, jobs: Sequence[str], options: Mapping[str, Any]) -> list[str]:
        """The command that cancels a pilot's jobs by their ids, or by its name where no id ever arrived (``jobs`` empty)."""

    def questions(self, ledger: str, left: Sequence[str], accounting: bool | None) -> list[list[str]]:
        """The commands whose answers tell of all pilots of a ledger. ``left``: ids of jobs that the last listing lacked; ``accounting``: None where
        nobody knows whether there is any."""

    def states(self, ledger: str, answers: Answers, left: Mapping[str, str]) -> dict[str, Known] | Unknown:
        """pilot (hex) -> what is known. A pilot that is not there is absent now. ``left``: pilot -> job id of those asked about in ``questions``."""


GROUP = "icp.batch_systems"
"""Entry points of this group are batch systems that others wrote: a class without arguments each."""

_OURS: Mapping[str, str] = {
    "none": "none:NoBatch", "slurm": "slurm:Slurm", "sge": "grid_engine:GridEngine", "condor": "condor:Condor", "pbs": "pbs:Pbs",
    "torque": "pbs:Torque", "lsf": "lsf:Lsf",
}  # fmt: skip


def system(name: str) -> BatchSystem:
    """The batch system that the configuration calls so: one of ours, or a plug-in's; BadInput."""
    if name in _OURS:
        module, _, kind = _OURS[name].partition(":")
        ours: BatchSystem = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
        return ours
    from importlib.metadata import entry_points

    others = {one.name: one for one in entry_points(group=GROUP)}
    if name not in others:
        raise BadInput(f"no scheduler {name!r}", "known are " + ", ".join([*_OURS, *sorted(others)]))
    try:
        made: BatchSystem = others[name].load()()
    except Exception as error:  # whatever a plug-in of others does
        raise BadInput(f"scheduler {name!r}: the plug-in {others[name].value} cannot be loaded: {error}", "install it again, or a newer one") from error
    return made
