"""What a host has and lacks for work there, found by trying (hides how each thing is tried, and that some of it hangs)."""

import errno
import json
import os
import shutil
import socket
import sys
import time

from . import node, software, trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["checkup", "has", "main"]

PATIENCE = 8.0
"""Seconds that each thing has."""
_LOOKED_AT = 2000
"""Entries of a directory in which the oldest is sought."""


EGRESS = ("pypi.org:443", "github.com:443")
"""What is tried, to see whether a host gets out."""


def checkup(root: "str | None", scratch: "str | None", told: "dict[str, Any]") -> "dict[str, Any]":
    """All of it; ``root`` and ``scratch`` are the site's, ``told`` what agents are told of software."""
    begun = time.time()
    places = [("home", os.path.expanduser("~")), ("tmp", os.environ.get("TMPDIR") or "/tmp")]
    places += [("root", root)] if root else []
    places += [("scratch", os.path.expandvars(scratch))] if scratch else []
    found = {
        "now": begun,
        "host": node.host(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "executable": sys.executable,
        "disks": [_disk(name, path) for name, path in places],
        "has": has(),
        "proxies": sorted(name for name in os.environ if name.lower() in ("http_proxy", "https_proxy")),
    }
    try:
        found.update(software.survey(told, whole=False))
    except OSError as error:
        found.update(ways=[], why=str(error))
    return found


def has() -> "dict[str, str]":
    """What each kind of work may want of a host: "" where it is there, or else why it is not."""
    reached = [_reached(one) for one in EGRESS]
    return {
        "namespaces": _tried(["unshare", "-rm", "true"]),
        "fuse": _fuse(),
        "containers": _either("apptainer", "singularity"),
        "egress": "" if "" in reached else reached[0],
    }


def _disk(name: str, path: str) -> "dict[str, Any]":
    """Room and inodes of the place, or of the nearest directory above it that there is."""
    told: "dict[str, Any]" = {"name": name, "path": path, "kind": "", "why": ""}
    at = path
    while not os.path.isdir(at) and os.path.dirname(at) != at:
        at = os.path.dirname(at)
    try:
        info = os.statvfs(at)
        told.update(free=info.f_bavail * info.f_frsize, size=info.f_blocks * info.f_frsize, inodes=info.f_files and info.f_favail)
        told["kind"] = node.file_system(at)
        told["oldest"] = _oldest(at)
        probe = f"{at}/.icp-{os.getpid()}"
        with open(probe, "wb") as stream:
            # quotas are found by filling, not by asking
            stream.write(b"\0" * 65536)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        told["why"] = error.strerror or errno.errorcode.get(error.errno or 0, "?")
    try:
        os.unlink(f"{at}/.icp-{os.getpid()}")
    except OSError:
        pass
    return told


def _oldest(path: str) -> "float | None":
    """Days since the file of ours that nobody touched for longest was read or written: what a purge would have taken."""
    oldest = None
    me = os.geteuid()
    with os.scandir(path) as entries:
        for number, entry in enumerate(entries):
            if number >= _LOOKED_AT:
                break
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_uid == me and entry.is_file(follow_symlinks=False):
                touched = max(found.st_atime, found.st_mtime)
                oldest = touched if oldest is None else min(oldest, touched)
    return None if oldest is None else round((time.time() - oldest) / 86400, 1)


def _fuse() -> str:
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse may not be opened"


def _tried(argv: "Sequence[str]") -> str:
    """Runs it; "" where that went well, otherwise why it did not."""
    if shutil.which(argv[0]) is None:
        return f"there is no {argv[0]}"
    outcome = trial.attempt(argv, dict(os.environ), PATIENCE)
    return "" if outcome.ok else f"{argv[0]}: {outcome.why(PATIENCE)}"


def _either(one: str, other: str) -> str:
    lacks = [_tried([one, "--version"]), _tried([other, "--version"])]
    if "" in lacks:
        return ""
    return f"there is neither {one} nor {other}" if all(why.startswith("there is no ") for why in lacks) else " and ".join(lacks)


def _reached(where: str) -> str:
    name, _, port = where.rpartition(":")
    try:
        socket.create_connection((name, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        return str(error.strerror or error)
    return ""


def main(root: "str | None", scratch: "str | None", told: "dict[str, Any]") -> int:
    """Prints it as one JSON line."""
    sys.stdout.write(json.dumps(checkup(root, scratch, told), sort_keys=True) + "\n")
    return 0
