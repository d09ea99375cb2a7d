"""Work that was written for one pool: submit files of HTCondor and batch scripts, recognised by name or content (hides which is which)."""

from __future__ import annotations

import re
from collections.abc import Callable

from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk
from icp.dsl.foreign.described import Described
from icp.dsl.locator import KeyPath, Position

__all__ = ["Described", "Reader", "reader"]

Reader = Callable[[str, str, "dict[KeyPath, Position]", Mistakes, "Disk | None"], "Described | None"]
"""(text, path, places to be filled, mistakes, disk) -> what it describes; None where nothing can be made of it."""

SUBMIT = (".sub", ".submit", ".jdf", ".jdl", ".condor")
SCRIPT = (".sbatch", ".slurm", ".pbs", ".sge", ".sh", ".bash", ".csh", ".job")

_QUEUE = re.compile(r"^[ \t]*queue\b(?![ \t]*[=:])", re.IGNORECASE | re.MULTILINE)
_DIRECTIVE = re.compile(r"^#(?:SBATCH|PBS|\$)[ \t]+-", re.MULTILINE)


def reader(text: str, path: str) -> Reader | None:
    """What reads this file; None for a steering file."""
    lower = path.lower()
    if lower.endswith(".toml"):
        return None
    if lower.endswith(SUBMIT) or (_QUEUE.search(text) and not text.startswith("#!") and not lower.endswith(SCRIPT)):
        from icp.dsl.foreign.condor_submit import read as read_submit

        return read_submit
    if lower.endswith(SCRIPT) or _DIRECTIVE.search(text) or text.startswith("#!"):
        from icp.dsl.foreign.batch_script import read as read_script

        return read_script
    return None
