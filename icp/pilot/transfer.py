"""One large file towards the engine or from it, in a session of its own, resumed at the byte where it broke off (hides
partial files).
"""

import errno
import fcntl
import json
import os
import sys

from . import answers, faults, spool
from .digest import digest_of
from .disk import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MISSING", "receive", "send"]

MISSING = 3
"""Exit code: there is no such output, or not so many bytes of it."""
_BLOCK = 1 << 18


def send(root: str, attempt: str, name: str, offset: int, length: int) -> int:
    """Writes so many bytes of an output, and nothing else, on standard output."""
    spool.check_root(root)
    try:
        answers.piece(spool.Spool(root).stored(attempt), name, offset, 0)
        fd = answers.open_below(spool.Spool(root).stored(attempt), name)
    except (spool.BadName, answers.Absent) as error:
        return _missing(str(error))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return _missing(str(error.strerror))
        raise
    with os.fdopen(fd, "rb") as source:
        source.seek(offset)
        while length > 0:
            data = source.read(min(_BLOCK, length))
            if not data:
                return _missing("shorter than it was")
            sys.stdout.buffer.write(data)
            length -= len(data)
    sys.stdout.buffer.flush()
    return 0


def _missing(why: str) -> int:
    sys.stderr.write(why + "\n")
    return MISSING


def receive(root: str, sha256: str, offset: int, size: int) -> int:
    """Appends standard input to the bytes that are there of ``cache/<sha256>``, if those are ``offset``, and says how many
    there are then: ``{"have", "done"}``. Whole and right, they get their name.
    """
    spool.check_root(root)
    target = spool.Spool(root).blob(sha256)
    if os.path.exists(target):
        return _said(size, True)
    fd = os.open(target + ".part", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # One that was cut off may still write down what it had read. Where there are no locks the checksum decides.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return _said(None, False)
        have = os.fstat(fd).st_size
        if have == offset:
            have += _append(fd, size - have)
        if have < size:
            return _said(have, False)
        Disk().sync(fd)
        if have > size or digest_of(target + ".part") != sha256:
            os.ftruncate(fd, 0)
            return _said(0, False)
        faults.visit("receive.whole")
        os.rename(target + ".part", target)
        Disk().sync_folder(os.path.dirname(target))
        return _said(size, True)
    finally:
        os.close(fd)


def _append(fd: int, most: int) -> int:
    done, source = 0, sys.stdin.fileno()
    while done < most:
        data = os.read(source, min(_BLOCK, most - done))
        if not data:
            break
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        done += len(data)
        faults.visit("receive.written")
    return done


def _said(have: "int | None", done: bool) -> int:
    told: dict[str, Any] = {"have": have, "done": done}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0
