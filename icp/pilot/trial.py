"""A command that is tried out for some seconds, whatever it does: it may hang for good (hides pipes, and who waits for the process)."""

import os
import select
import signal
import subprocess
import time

from . import node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outcome", "attempt", "last_line"]

_LIMIT = 64 * 1024
# The agent's loop waits for every child of its process, so the exit code comes in band.
_TOLD = b"\nicp-exit "
_SHELL = '"$@"; printf "\\nicp-exit %d\\n" "$?"'


class Outcome:
    """What came of it: ``code`` is None where it did not end in time."""

    def __init__(self, code: "int | None", out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def ok(self) -> bool:
        return self.code == 0

    def why(self, seconds: float) -> str:
        """Why it is not ok, short: the last line that it wrote, or that it did not end."""
        if self.code is None:
            return f"no answer within {seconds:g} s"
        return last_line(self.err) or f"exit {self.code}"


def last_line(text: str) -> str:
    """The last line that holds something, short; "" where none does."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1][:200] if said else ""


def attempt(argv: "Sequence[str]", env: "dict[str, str]", seconds: float, folder: str = "/") -> Outcome:
    """Runs it in ``folder`` in a session of its own; when the time is over it is killed and not waited for: a process
    that waits for a dead mount cannot be.
    """
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "sh", *argv],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(127, "", str(error))
    process.returncode = 0
    assert process.stdout is not None and process.stderr is not None
    streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = streams.values()
    left, end = set(streams), time.time() + seconds
    while left and _TOLD not in out:
        ready = select.select(list(left), [], [], max(0.0, end - time.time()))[0]
        if not ready:
            break
        for fd in ready:
            data = os.read(fd, 8192)
            if not data:
                left.discard(fd)
            elif len(streams[fd]) < _LIMIT or data.rstrip().rpartition(b"\n")[2].startswith(_TOLD.strip()):
                streams[fd] += data
    if left - {process.stdout.fileno()} and _TOLD in out and select.select([process.stderr], [], [], 0)[0]:
        err += os.read(process.stderr.fileno(), 8192)
    _end(process.pid)
    process.stdout.close()
    process.stderr.close()
    text, told, code = bytes(out).rpartition(_TOLD)
    number = int(code) if told and code.strip().isdigit() else None
    return Outcome(number, text.decode("utf-8", "replace"), bytes(err).decode("utf-8", "replace"))


def _end(pid: int) -> None:
    """Kills the session, what descends from it, and takes notice of its end if that comes at once."""
    for one in [*node.descendants(pid), pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except OSError:
            pass
    for _ in range(20):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except OSError:
            return  # The agent's loop was faster.
        time.sleep(0.01)
