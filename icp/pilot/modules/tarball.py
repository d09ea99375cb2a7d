"""Tar archives made and unpacked (hides compression, and what an archive must not do)."""

import os
import tarfile

from icp.pilot.module import Module, Parameter, Stats
from icp.pilot.modules import chosen

__all__ = ["Tarball"]

_KINDS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz"}


class Tarball(Module):
    """Packs files into a tar archive, or unpacks one; the archive's name says how it is compressed."""

    archive = Parameter(str, help="its name: .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz")
    files = Parameter(list, [], "patterns of what is packed; without them the archive is unpacked")
    into = Parameter(str, ".", "the folder that it is unpacked into")

    def execute(self, stats: Stats) -> None:
        kind = next((kind for end, kind in _KINDS.items() if self.archive.endswith(end)), None)
        if kind is None:
            raise ValueError(f"{self.archive} is none of {', '.join(_KINDS)}")
        if self.files:
            names = chosen(self.files)
            with tarfile.open(self.archive, "w:" + kind) as tar:  # type: ignore[call-overload]
                for name in names:
                    tar.add(name, filter=lambda info: None if info.name == self.archive else info)
            stats.increment("tarball.packed", len(names))
            return
        os.makedirs(self.into, exist_ok=True)
        with tarfile.open(self.archive, "r:*") as tar:
            members = tar.getmembers()
            for member in members:
                check(member)
            if hasattr(tarfile, "data_filter"):
                tar.extractall(self.into, members, filter="data")
            else:
                tar.extractall(self.into, members)  # noqa: S202 - each member was checked
        stats.increment("tarball.unpacked", len(members))


def check(member: tarfile.TarInfo) -> None:
    """ValueError where a member would lie outside, lead outside, or be no file, folder or link."""
    if outside(member.name):
        raise ValueError(f"the archive holds {member.name!r}, which would lie outside of the folder")
    if member.issym() or member.islnk():
        base = os.path.dirname(member.name) if member.issym() else ""
        if os.path.isabs(member.linkname) or outside(os.path.normpath(os.path.join(base, member.linkname))):
            raise ValueError(f"the archive holds the link {member.name!r}, which leads outside of the folder")
    elif not (member.isfile() or member.isdir()):
        raise ValueError(f"the archive holds {member.name!r}, which is no file, folder or link")


def outside(name: str) -> bool:
    """Whether a name leaves the folder that it is relative to."""
    return os.path.isabs(name) or ".." in name.split("/")
