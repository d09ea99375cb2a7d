"""Files copied in the middle of a task, and compared with their checksums (hides schemes of URLs)."""

import os
import shutil
import tempfile
import urllib.parse

from icp.pilot.fetch import Transfers, Want
from icp.pilot.module import Module, Parameter, Stats

__all__ = ["Transfer"]


class Transfer(Module):
    """Copies one file to another place. What arrives is whole, or nothing is there. Inputs and outputs of a task are better
    declared as `inputs` and `outputs`, which are recorded."""

    source = Parameter(str, help="where it is: a path, or a URL (file, http, https, ssh)")
    dest = Parameter(str, help="the path where it goes; a folder, or a name that ends with /, keeps the file's name")
    sha256 = Parameter(str, "", "its checksum: another one is a failure")
    md5 = Parameter(str, "", "the same with md5")
    overwrite = Parameter(bool, True, "another file of that name may be replaced")

    def execute(self, stats: Stats) -> None:
        url = self.source if "://" in self.source else "file://" + urllib.parse.quote(os.path.abspath(self.source))
        dest = self.dest
        if dest.endswith("/") or os.path.isdir(dest):
            dest = os.path.join(dest, os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path)))
        if not self.overwrite and os.path.lexists(dest):
            raise FileExistsError(f"{dest} is there already")
        os.makedirs(os.path.dirname(dest) or ".", exist_ok=True)
        # A name of its own, as other tasks may bring the same file to the same place.
        temporary = f"{dest}.{os.uname().nodename}.{os.getpid()}.tmp"
        folder = tempfile.mkdtemp(prefix="transfer-")
        try:
            want = Want(url, self.sha256.lower() or None, self.md5.lower() or None)
            told = Transfers(None, folder).get(want, temporary)
            os.replace(temporary, dest)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            shutil.rmtree(folder, ignore_errors=True)
        stats.increment("transfer.files")
        stats.increment("transfer.bytes", told["bytes"])
        stats.increment("transfer.seconds", told["seconds"])
