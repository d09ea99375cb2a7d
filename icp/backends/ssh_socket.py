"""Where the sockets of shared connections lie: private, short, on a local disk (hides which directory that is)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from icp.errors import BadInput

__all__ = ["control_folder"]

_LONGEST = 107 - 17  # ssh binds to PATH.<16 characters> first, then renames
_NETWORK_DISKS = ("nfs", "lustre", "gpfs", "afs", "cifs", "smb", "beegfs", "ceph", "glusterfs", "panfs", "fuse.sshfs")


def control_folder(state: Path, environ: Mapping[str, str] | None = None) -> Path:
    """A private directory (0700) on a local disk with room for a socket's name: below ``state`` (places.state) if that will do.

    Raises BadInput where the directory is not ours alone.
    """
    env = os.environ if environ is None else environ
    # not first what goes with the last logout: cron uses the same connections
    choices = [state / "ssh", Path(f"/tmp/icp-ssh-{os.getuid()}")]  # noqa: S108  looked at below before it is used
    if env.get("XDG_RUNTIME_DIR", "").startswith("/"):
        choices.append(Path(env["XDG_RUNTIME_DIR"]) / "icp-ssh")
    for folder in choices:
        if len(os.fsencode(folder)) + 17 <= _LONGEST and not _on_network(folder):
            return _private(folder)
    return _private(choices[1])


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error.strerror}") from None
    if found.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        raise BadInput(f"{folder} belongs to somebody else", "remove it, or set ICP_HOME to a directory of yours")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _on_network(folder: Path) -> bool:
    """Whether sockets cannot be shared there; a system that does not tell is taken for local."""
    try:
        mounts = [line.split(" ")[1:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return False
    real = os.path.realpath(folder)
    inside = [(point, kind) for point, kind in mounts if real == point or real.startswith(point.rstrip("/") + "/")]
    return bool(inside) and max(inside, key=lambda one: len(one[0]))[1].startswith(_NETWORK_DISKS)
