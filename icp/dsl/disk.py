"""What a steering file may read beside itself: lists of files, CSV, what exists (hides the file system)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Disk"]


class Disk:
    """The folder of a steering file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
