"""The one writer of a stream of facts: grouped syncs in a thread, and what a full or broken disk does to them (hides
segments).

After a failed or short write nothing is ever appended to that segment: the next one is opened, and everything behind
the last durable fact is written again. Facts wait in memory until they are durable, so a disk that is full for a while
loses none.
"""

import os
import threading
import time

from . import faults, spool
from .disk import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Journal", "Syncer", "last_segment", "segments"]

_GROUP = 0.05
"""Seconds that the syncing thread lets facts gather."""
_WORST_PAUSE = 10.0


def segments(folder: str, stream: str) -> "list[tuple[int, int]]":
    """(segment, bytes) of the files of a stream, rising; OSError if the folder cannot be read."""
    found = []
    prefix = stream + "."
    for name in os.listdir(folder):
        if name.startswith(prefix) and name[len(prefix) :].isdigit():
            try:
                found.append((int(name[len(prefix) :]), os.stat(folder + "/" + name).st_size))
            except OSError:
                pass
    found.sort()
    return found


def last_segment(folder: str, stream: str) -> int:
    """The newest segment's number, 0 if there is none."""
    found = segments(folder, stream)
    return found[-1][0] if found else 0


class Journal:
    """A stream ``<stream>.<segment>`` in a folder that exists. ``add`` and ``flush`` may be called by two threads."""

    def __init__(self, folder: str, stream: str, segment: int = 0, seq: int = 0, disk: "Disk | None" = None) -> None:
        """Goes on behind ``segment`` (the newest that exists) with fact number ``seq`` + 1."""
        self.durable = seq
        """The number of the last fact that is on disk for good."""
        self.added = seq
        """The number of the last fact taken."""
        self.trouble: OSError | None = None
        """The last error of the disk, None when all is well."""
        self._folder, self._stream, self._disk = folder, stream, disk or Disk()
        self.before: Callable[[], None] | None = None
        """Called before lines are written: makes durable what they point to."""
        self._segment, self._size, self._fd = segment, 0, -1
        self._waiting: list[bytes] = []
        """Lines behind ``durable``."""
        self._lock = threading.Lock()

    def add(self, fact: "dict[str, Any]") -> int:
        """Takes a fact (without ``n``) and returns its number; it is durable when ``durable`` has reached that."""
        with self._lock:
            self.added += 1
            numbered = {"n": self.added, "t": round(time.time(), 3)}
            numbered.update(fact)
            raw = spool.line(numbered)
            if len(raw) > spool.LINE_LIMIT:
                raw = spool.line(_shortened(numbered))
            self._waiting.append(raw)
            return self.added

    @property
    def pending(self) -> bool:
        """Whether a fact is not yet durable."""
        return self.durable != self.added

    def flush(self) -> bool:
        """Writes and syncs what waits; False (and ``trouble``) where the disk did not take it: try again later."""
        with self._lock:
            lines = self._waiting[:]
        if not lines:
            return True
        data = b"".join(lines)
        if self.before is not None:
            self.before()
        try:
            if self._fd < 0 or self._size >= spool.SEGMENT_LIMIT:
                self._next_segment()
            faults.writing("agent.fact_written", self._fd, data)
            if self._disk.write(self._fd, data) != len(data):
                raise OSError(28, "short write")
            faults.visit("agent.fact_written")
            self._disk.sync(self._fd)
            faults.visit("agent.synced")
        except OSError as error:
            self.trouble = error
            self._abandon()
            return False
        self.trouble = None
        self._size += len(data)
        with self._lock:
            del self._waiting[: len(lines)]
            self.durable += len(lines)
        return True

    def close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    def _path(self) -> str:
        return f"{self._folder}/{self._stream}.{self._segment}"

    def _next_segment(self) -> None:
        self.close()
        self._segment += 1
        self._size = 0
        self._fd = self._disk.append_to(self._path())
        self._disk.sync_folder(self._folder)

    def _abandon(self) -> None:
        """Leaves the segment as it is; one in which nothing is durable is removed, so that a full disk does not
        fill with them.
        """
        opened = self._fd >= 0
        try:
            self.close()
            if opened and self._size == 0:
                self._disk.unlink(self._path())
        except OSError:
            pass
        self._fd = -1


def _shortened(fact: "dict[str, Any]") -> "dict[str, Any]":
    """The fact without what made it too long for a line: first the transfers and statistics, then all but the end of the message."""
    small = dict(fact)
    small.pop("moved", None)
    if "stats" in small and len(spool.line(small)) > spool.LINE_LIMIT:
        small.pop("stats")
        small["stats_err"] = "the statistics do not fit into a fact of 64 KiB"
    if len(spool.line(small)) > spool.LINE_LIMIT and "err" in small:
        small["err"] = str(small["err"])[-2000:]
    if len(spool.line(small)) > spool.LINE_LIMIT:
        # Outputs are never dropped in silence: an attempt with too many of them did not work.
        for name in ("out", "attrs"):
            small.pop(name, None)
        if small.get("r") == "ok":
            small.update(r="error", kind="payload", err="the list of outputs does not fit into a fact of 64 KiB")
    return small


class Syncer:
    """A thread that flushes a journal, so that the loop never waits for a disk."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._wake = threading.Event()
        self._leave = False
        self._thread = threading.Thread(target=self._run, name="sync")
        self._thread.daemon = True
        self._thread.start()

    def poke(self) -> None:
        """Facts were added."""
        self._wake.set()

    def close(self, timeout: float) -> bool:
        """Flushes a last time, trying for at most ``timeout`` seconds; whether everything is durable."""
        self._leave = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._journal.pending

    def _run(self) -> None:
        pause = 0.1
        while True:
            self._wake.wait()
            if not self._leave:
                time.sleep(_GROUP)
            self._wake.clear()
            if self._journal.flush():
                pause = 0.1
                if self._leave and not self._journal.pending:
                    return
            else:
                time.sleep(pause)
                pause = min(_WORST_PAUSE, pause * 2)
                self._wake.set()
