"""Files copied in the middle of a task, and compared with their checksums (hides schemes of URLs)."""

import os
import shutil
import urllib.parse

from icp.pilot.module import Module, Parameter, Stats
from icp.pilot.modules.checksum import digest

__all__ = ["Transfer"]


class Transfer(Module):
    """Copies one file to another place: paths, or file: URLs. What arrives is whole, or nothing is there."""

    source = Parameter(str, help="where it is")
    dest = Parameter(str, help="where it goes; a folder, or a name that ends with /, keeps the file's name")
    sha256 = Parameter(str, "", "its checksum: another one is a failure")
    md5 = Parameter(str, "", "the same with md5")
    overwrite = Parameter(bool, True, "another file of that name may be replaced")

    def execute(self, stats: Stats) -> None:
        source, dest = path_of(self.source), path_of(self.dest)
        if dest.endswith("/") or os.path.isdir(dest):
            dest = os.path.join(dest, os.path.basename(source))
        if not self.overwrite and os.path.lexists(dest):
            raise FileExistsError(f"{dest} is there already")
        os.makedirs(os.path.dirname(dest) or ".", exist_ok=True)
        # A name of its own, as other tasks may bring the same file to the same place.
        temporary = f"{dest}.{os.uname().nodename}.{os.getpid()}.tmp"
        try:
            shutil.copy(source, temporary)
            for kind, expected in (("sha256", self.sha256), ("md5", self.md5)):
                found = digest(temporary, kind) if expected else ""
                if found != expected.lower():
                    raise ValueError(f"{self.source} has {kind} {found}, expected {expected}")
            size = os.stat(temporary).st_size
            if size != os.stat(source).st_size:
                raise OSError(f"{self.source} changed while it was copied")
            os.replace(temporary, dest)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
        stats.increment("transfer.files")
        stats.increment("transfer.bytes", size)


def path_of(place: str) -> str:
    """The path of a place; ValueError for a URL that is not ``file:``."""
    scheme, colon, _ = place.partition(":")
    if not colon or "/" in scheme:
        return place
    parts = urllib.parse.urlsplit(place)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise ValueError(f"{place}: only paths and file: URLs can be copied")
    return urllib.parse.unquote(parts.path)
