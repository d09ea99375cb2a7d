"""Files taken away in the middle of a task, to have the space (hides links and folders)."""

import os
import shutil

from icp.pilot.module import Module, Parameter, Stats
from icp.pilot.modules import chosen, inside

__all__ = ["Cleanup"]


class Cleanup(Module):
    """Removes files and folders below the task's directory. All of it goes anyway when the task ends."""

    files = Parameter(list, help="patterns of files and folders")
    missing = Parameter(bool, True, "a pattern may name nothing")

    def execute(self, stats: Stats) -> None:
        for name in chosen(self.files, not self.missing):
            if os.path.isdir(name) and not os.path.islink(name):
                shutil.rmtree(inside(name))
            elif os.path.lexists(name):  # A folder before it may have held it.
                os.unlink(inside(name))
            stats.increment("cleanup.removed")
