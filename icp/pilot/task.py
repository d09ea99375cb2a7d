"""What an attempt uses while it runs: its slot's folder, its process, the pack of its logs (hides descriptors and
how they are re-used).
"""

import errno
import os
import signal
import threading
import time

from . import faults, node
from .disk import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Pack", "Slot", "Task", "capped"]

LOG_LIMIT = 1 << 20
"""Bytes kept of each of stdout and stderr: the first and the last half of it."""


class Slot:
    """A node-local folder that one card at a time uses: ``work/`` (a task's directory), ``tmp/``, ``out``,
    ``err``, ``stats``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.work, self.tmp, self.stats = folder + "/work", folder + "/tmp", folder + "/stats"
        os.mkdir(folder, 0o700)
        os.mkdir(self.work, 0o700)
        os.mkdir(self.tmp, 0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.out, self.err = os.open(folder + "/out", flags, 0o600), os.open(folder + "/err", flags, 0o600)
        self._spare = 0

    def refresh(self, links: "dict[str, str] | None" = None) -> bool:
        """Empties what is not empty; a directory that was used is replaced rather than trusted to be emptied. True where
        the working directory holds just these ``links`` (name -> target) already, and was left as it is.
        """
        linked = bool(links) and _holds(self.work, links or {})
        for path in (self.work, self.tmp):
            if linked and path is self.work:
                continue
            try:
                if not os.listdir(path) and os.stat(path).st_mode & 0o777 == 0o700:
                    continue
            except OSError:
                pass
            if not remove_tree(path):
                self._spare += 1
                os.rename(path, f"{self.folder}/left.{self._spare}")
            os.mkdir(path, 0o700)
        try:
            os.unlink(self.stats)
        except OSError:
            pass
        for fd in (self.out, self.err):
            if os.fstat(fd).st_size:
                os.ftruncate(fd, 0)
        return linked

    def close(self) -> None:
        os.close(self.out)
        os.close(self.err)


def _holds(folder: str, links: "dict[str, str]") -> bool:
    try:
        names = os.listdir(folder)
        return (
            len(names) == len(links)
            and os.stat(folder).st_mode & 0o777 == 0o700
            and all(links.get(name) == os.readlink(f"{folder}/{name}") for name in names)
        )
    except OSError:
        return False


class Task:
    """What is going on in an attempt, for whoever watches over its time and memory."""

    __slots__ = (
        "began",
        "disk",
        "last_tail",
        "pack",
        "peak",
        "phase",
        "pid",
        "reported",
        "since",
        "slot",
        "spec",
        "verdict",
    )

    def __init__(self, spec: "dict[str, Any]", slot: Slot) -> None:
        self.spec, self.slot = spec, slot
        self.phase, self.pid = "staging", 0
        self.began = self.since = time.time()
        self.verdict: tuple[str, str | None, str] | None = None
        """(r, kind, sentence) once it was decided how this ends, whatever the process says."""
        self.reported = ""
        self.peak = self.disk = 0
        self.last_tail = 0.0

    def enter(self, phase: str) -> float:
        self.phase, self.since = phase, time.time()
        return self.since

    def stop(self, result: str, kind: "str | None", text: str, number: int = signal.SIGKILL) -> None:
        """Decides the end (the first decision stays) and signals the session of the running process."""
        if self.verdict is None:
            self.verdict = (result, kind, text)
        self.signal(number)

    def signal(self, number: int) -> None:
        if self.pid:
            # What it was wrapped in may have sessions and namespaces of its own, whose first process ends all of them.
            nested = node.descendants(self.pid) if number == signal.SIGKILL and self.spec.get("software") else []
            try:
                try:
                    os.killpg(self.pid, number)
                except ProcessLookupError:
                    os.kill(self.pid, number)  # It was forked, and has yet to make its session.
            except OSError:
                pass
            for pid in nested:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass


class Pack:
    """The file with the logs of one card's attempts; without a path nothing is kept."""

    def __init__(self, path: "str | None") -> None:
        self._path = path
        self._fd = -1
        self._lock = threading.Lock()
        self._finished = False
        self.dirty = False

    def append(self, out: bytes, err: bytes) -> "list[int] | None":
        """[offset, bytes of stdout, bytes of stderr]; OSError."""
        if self._path is None:
            return None
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        offset = os.fstat(self._fd).st_size
        data = out + err
        if os.write(self._fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.dirty = True
        faults.visit("agent.logged")
        return [offset, len(out), len(err)]

    def sync(self) -> None:
        """Makes it durable; called by the thread that then makes the facts durable which point into it."""
        with self._lock:
            if self._fd >= 0 and self.dirty:
                self.dirty = False
                try:
                    os.fdatasync(self._fd)
                except OSError:
                    pass  # A log that is lost costs no result.
            if self._fd >= 0 and self._finished:
                os.close(self._fd)
                self._fd = -1

    def finish(self) -> bool:
        """Nothing more comes; whether ``sync`` has something to close."""
        self._finished = True
        return self._fd >= 0


def capped(fd: int) -> bytes:
    """What was written to a descriptor: all of it, or the first and the last half of LOG_LIMIT with a line between."""
    size = os.fstat(fd).st_size
    if size == 0:
        return b""
    if size <= LOG_LIMIT:
        return os.pread(fd, size, 0)
    half = LOG_LIMIT // 2
    gap = b"\n[... %d bytes left out ...]\n" % (size - LOG_LIMIT)
    return os.pread(fd, half, 0) + gap + os.pread(fd, half - len(gap), size - half + len(gap))
