"""The spool's lock (hides which kind works on the site's file system).

It is ``fcntl.lockf`` on ``lock``. Where the file system has none that works, ``lock.folder`` says so to all who come later,
and a directory ``lock.d`` takes its place: its ``holder`` names host, boot and process, and only the same host breaks it.
"""

import errno
import fcntl
import json
import os
import time

from . import faults, node
from .disk import remove_tree

__all__ = ["Busy", "Lock"]

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another exchange that is applying orders."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Busy(Exception):
    """Somebody else holds the lock for too long; the text says who, as far as it is known."""


class Lock:
    """Held while the content of the spool is changed."""

    def __init__(self, root: str) -> None:
        self._path, self._folder, self._marker = root + "/lock", root + "/lock.d", root + "/lock.folder"
        self._fd = -1

    def __enter__(self) -> None:
        deadline = time.time() + LOCK_TIMEOUT
        while not self._try():
            if time.time() > deadline:
                raise Busy(self._holder())
            time.sleep(0.05)
        faults.visit("exchange.locked")

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        else:
            remove_tree(self._folder)

    def _try(self) -> bool:
        if os.path.exists(self._marker):
            return self._try_folder()
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fd = fd
            return True
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_LOCKS:
                os.close(os.open(self._marker, os.O_WRONLY | os.O_CREAT, 0o600))
                return self._try_folder()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False

    def _try_folder(self) -> bool:
        me = os.getpid()
        text = json.dumps({"host": node.host(), "boot": node.boot_id(), "pid": me, "start": node.start_time(me)})
        # Made whole under another name: a lock without a holder would be nobody's to break.
        mine = f"{self._folder}.{node.host()}.{me}"
        remove_tree(mine)
        os.mkdir(mine, 0o700)
        with open(mine + "/holder", "w") as stream:
            stream.write(text)
        try:
            os.rename(mine, self._folder)
            return True
        except OSError:
            remove_tree(mine)
        try:
            held = json.loads(self._holder())
            if held["host"] != node.host() or (
                held["boot"] == node.boot_id() and node.alive(held["pid"], held["start"])
            ):
                return False
            broken = f"{self._folder}.broken.{me}"
            os.rename(self._folder, broken)
            remove_tree(broken)
        except (OSError, ValueError, KeyError):
            pass
        return False

    def _holder(self) -> str:
        try:
            with open(self._folder + "/holder") as stream:
                return stream.read()
        except OSError:
            return "another exchange"
