"""What a steering file may read beside itself: lists of files, CSV, what exists, and predefined modules (hides the file system)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from icp.dsl.values import JobContext
from icp.model.chains import ChainOutput

__all__ = ["Disk", "Found", "Outputs", "predefined"]


@dataclass(frozen=True, slots=True)
class Found:
    """Files of an output of another dataset, in the order of its jobs; ``over``: there will be no more of them."""

    dataset: str
    files: Sequence[ChainOutput]
    over: bool
    columns: frozenset[str]
    """What its jobs differ in."""
    context: Callable[[int], JobContext]
    """What one of its jobs knows."""


Outputs = Callable[[str, str, str, bool], Found]
"""(dataset, task, output, whether it may be at work still) -> its files. BadInput, NotFound."""


class Disk:
    """The folder of a steering file."""

    def __init__(self, folder: Path, outputs: Outputs | None = None) -> None:
        self.folder, self.outputs = folder, outputs

    def read(self, name: str) -> bytes:
        """The content of a file; OSError when it cannot be read."""
        return (self.folder / name).read_bytes()

    def is_file(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def glob(self, pattern: str) -> list[str]:
        """Absolute paths of the files that match, sorted; ValueError for a pattern that is none."""
        path = Path(pattern)
        if path.is_absolute():
            anchor = Path(path.anchor)
            found = anchor.glob(str(path.relative_to(anchor)))
        else:
            found = self.folder.absolute().glob(pattern)
        return sorted(str(file) for file in found if file.is_file())

    def matching(self, pattern: str, kind: str) -> list[str]:
        """What matches, as the pattern says it (relative to the folder or absolute), sorted; ``kind``: files, dirs or any."""
        path = Path(pattern)
        base = Path(path.anchor) if path.is_absolute() else self.folder
        found = base.glob(str(path.relative_to(base)) if path.is_absolute() else pattern)
        fits = {"files": Path.is_file, "dirs": Path.is_dir}.get(kind, Path.exists)
        return sorted(str(one if path.is_absolute() else one.relative_to(base)) for one in found if fits(one))

    def is_folder(self, name: str) -> bool:
        return (self.folder / name).is_dir()


def predefined(name: str) -> str:
    """The text of one of the modules that are there without a file; OSError when there is none of this name."""
    return (resources.files("icp.pilot.modules") / f"{name}.py").read_text("utf-8")
