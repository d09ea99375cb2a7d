"""A command of somebody else's that a thread of the agent waits for: its bytes, its end, its last words (hides that the
agent's loop reaps every child, so that `wait` would tell nothing).
"""

import os
import select
import signal
import subprocess
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Outside", "Unanswered", "environment"]

_ALL = '"$@" >"$0" 2>&1; echo $? >&2'
_ERRORS = '"$@" 2>"$0"; echo $? >&2'
"""What it says goes to a file; the exit code comes over a pipe that nothing else holds, so its end is the end."""
_BLOCK = 1 << 18


class Unanswered(Exception):
    """It was stopped before its end; the text says why."""


def environment() -> "dict[str, str]":
    """This process's environment without what is only for ourselves."""
    return {name: value for name, value in os.environ.items() if name != "ICP_FAULT" and not name.startswith("PYTHON")}


class Outside:
    """A running command. ``reads``: its standard output is read by :meth:`blocks`; ``writes``: its standard input is
    written by :meth:`write`. OSError where it cannot be started.
    """

    def __init__(self, argv: "list[str]", folder: str, reads: bool = False, writes: bool = False) -> None:
        """``folder``: where what it says is kept as long as it runs."""
        fd, self._said = tempfile.mkstemp(prefix="said.", dir=folder)
        os.close(fd)
        none = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _ERRORS if reads else _ALL, self._said, *argv],
                stdin=subprocess.PIPE if writes else none,
                stdout=subprocess.PIPE if reads else none,
                stderr=subprocess.PIPE,
                env=environment(),
                cwd=folder,  # The agent's own is that of a task, and may be gone.
                start_new_session=True,
            )
        except BaseException:
            os.unlink(self._said)
            raise
        self._process.returncode = 0  # Whoever reaps it.
        self._over = False

    def blocks(self, silent: float, given_up: "Callable[[], bool]") -> "Iterator[bytes]":
        """What it writes on standard output; Unanswered after ``silent`` seconds without a byte."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while True:
            self._ready([fd], [], silent, given_up)
            data = os.read(fd, _BLOCK)
            if not data:
                return
            yield data

    def write(self, data: bytes, silent: float, given_up: "Callable[[], bool]") -> bool:
        """Writes to its standard input; False where it does not read any more."""
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        os.set_blocking(fd, False)
        view = memoryview(data)
        while view:
            self._ready([], [fd], silent, given_up)
            try:
                view = view[os.write(fd, view[:65536]) :]
            except BlockingIOError:
                pass
            except BrokenPipeError:
                return False
        return True

    def end_of_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self, seconds: float, given_up: "Callable[[], bool]") -> "int | None":
        """Waits for its end: the exit code, None if it was killed. Unanswered after so many seconds."""
        assert self._process.stderr is not None
        fd, told = self._process.stderr.fileno(), b""
        while True:
            self._ready([fd], [], seconds, given_up)
            data = os.read(fd, 100)
            if not data:
                self._over = True
                # A shell may have something to say of its own before.
                words = told.split()
                return int(words[-1]) if words and words[-1].isdigit() else None
            told += data

    def last_words(self) -> str:
        """The last line of what it said."""
        try:
            with open(self._said, "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - 4000))
                lines = stream.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[:500] if lines else ""

    def close(self) -> None:
        """Kills what is left of it."""
        if not self._over:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except OSError:
                pass
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        try:
            os.waitpid(self._process.pid, 0 if not self._over else os.WNOHANG)
        except OSError:
            pass  # The agent's loop was first.
        try:
            os.unlink(self._said)
        except OSError:
            pass

    def __enter__(self) -> "Outside":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self, reading: "list[int]", writing: "list[int]", seconds: float, given_up: "Callable[[], bool]") -> None:
        deadline = time.monotonic() + seconds
        while not any(select.select(reading, writing, [], 0.5)):
            if given_up():
                raise Unanswered("it was given up")
            if time.monotonic() > deadline:
                raise Unanswered(f"nothing happened for {seconds:.0f} s")
        if given_up():
            raise Unanswered("it was given up")
