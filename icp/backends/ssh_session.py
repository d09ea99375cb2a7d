"""One session of an ssh client: bytes to it and from it until both markers were seen, or the time is up (hides pipes)."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence

__all__ = ["Session"]

_CHUNK = 1 << 18
_ERR_HEAD, _ERR_TAIL = 64 * 1024, 64 * 1024
_STALL, _BULK = 60.0, 64 * 1024
"""Seconds for which a conversation may go on past its deadline after so many bytes moved."""
_GRACE = 1.0
"""Seconds that the client has to leave by itself after the command's end was seen."""


class Session:
    """Runs a client once; ``talk`` returns when its outcome is clear, and then the client is gone.

    What the command printed is between ``word`` LF and ``word:CODE`` LF on stdout, and behind LF ``word`` LF on stderr.
    """

    def __init__(self, argv: Sequence[str], stdin: bytes, word: bytes, limit: int) -> None:
        self.argv, self.stdin, self.word, self.limit = list(argv), memoryview(stdin), word, limit
        self.code: int | None = None
        """The command's exit code, if its end was seen."""
        self.begun = False
        self.timed_out = False
        self.over_limit = False
        self.aborted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._out, self._err = bytearray(), bytearray()
        self._start = 0
        self._searched = 0
        self._moved = 0

    @property
    def out(self) -> bytes:
        """What the command printed so far; nothing of what came before it."""
        return bytes(self._out[self._start :]) if self.begun else b""

    @property
    def err(self) -> bytes:
        """Its stderr, shortened in the middle; all of the client's if the command did not begin."""
        mark = b"\n" + self.word + b"\n"
        at = self._err.find(mark)
        return bytes(self._err[at + len(mark) :] if at >= 0 else self._err)

    @property
    def fell_back(self) -> bool:
        """The client found no shared connection and tried to make one of its own, which its proxy command forbids: nothing was sent."""
        return not self.begun and (b"kex_exchange_identification" in self._err or b"UNKNOWN port 65535" in self._err)

    def talk(self, deadline: float) -> None:
        """Until the outcome is clear; ``deadline`` by time.monotonic(): while bytes move, a slow link may take ten times as long."""
        try:
            process = subprocess.Popen(
                self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=0
            )
        except OSError as error:
            self._err += f"{self.argv[0]}: {error.strerror}".encode()
            return
        self._process = process
        if self.aborted:
            self.abort()
        try:
            self._pump(process, deadline)
        finally:
            # not communicate(): the master holds our pipes, and a killed client does not close them
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def abort(self) -> None:
        """Kill the client, from another thread: ``talk`` returns soon."""
        self.aborted = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _pump(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for pipe in (process.stdin, process.stdout, process.stderr):
                os.set_blocking(pipe.fileno(), False)
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            if self.stdin:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            else:
                process.stdin.close()
            last = time.monotonic() + 10 * (deadline - time.monotonic())
            while len(selector.get_map()) > 0:
                if self.code is not None:
                    deadline = min(deadline, time.monotonic() + _GRACE)
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready and deadline <= time.monotonic():
                    self.timed_out = self.code is None
                    return
                if self.code is None and self._moved >= _BULK:
                    self._moved = 0
                    deadline = max(deadline, min(last, time.monotonic() + _STALL))
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        if not self._feed(process.stdin.fileno()):
                            selector.unregister(process.stdin)
                            process.stdin.close()
                    elif not self._take(key.fd, is_out=key.fileobj is process.stdout):
                        selector.unregister(key.fileobj)
                if self.over_limit:
                    return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, min(_GRACE, deadline - time.monotonic())))

    def _feed(self, fd: int) -> bool:
        """Write what fits; whether there is more."""
        try:
            written = os.write(fd, self.stdin[:_CHUNK])
            self.stdin = self.stdin[written:]
            self._moved += written
        except BlockingIOError:
            return True
        except OSError:
            return False  # the command does not want it
        return bool(self.stdin)

    def _take(self, fd: int, *, is_out: bool) -> bool:
        """Read what is there; False at its end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._moved += len(data)
        if not is_out:
            self._err += data
            if len(self._err) > 2 * (_ERR_HEAD + _ERR_TAIL):
                del self._err[_ERR_HEAD:-_ERR_TAIL]
        elif self.code is None:
            self._out += data
            self._look()
        return True

    def _look(self) -> None:
        """Find the markers; what lies before the first is noise."""
        if not self.begun:
            mark = self.word + b"\n"
            at = self._out.find(mark)
            if at < 0:
                # a chatty login is not kept
                del self._out[: max(0, len(self._out) - (1 << 16))]
                return
            self.begun, self._start = True, at + len(mark)
            self._searched = self._start
        mark = self.word + b":"
        at = self._out.find(mark, self._searched)
        if at < 0:
            self._searched = max(self._start, len(self._out) - len(mark) + 1)
            self.over_limit = len(self._out) - self._start > self.limit
            return
        self._searched = at
        end = self._out.find(b"\n", at)
        if end >= 0:
            self.code = int(self._out[at + len(mark) : end])
            del self._out[at:]
