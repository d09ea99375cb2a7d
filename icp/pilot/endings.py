"""How a command ends that something is wrapped around, told from inside: a wrapper may end otherwise than what it runs (hides who tells it)."""

import signal
import sys

from .trial import last_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kit import Way

__all__ = ["marked", "said", "seen"]

# The shell outlives signals to the whole session, so that the end of what it waits for is always told.
_MARK = 'trap : HUP INT QUIT TERM USR1 USR2; "$@"; c=$?; echo $c >"$ICP_CODE"; %sexit $c'
# sh cannot tell the memory of what it waited for. So may a tracer's other processes keep it from its end: they are killed.
_COUNT = """
import os, resource, signal, sys
quiet = 1, 2, 3, 10, 12, 15
for number in quiet: signal.signal(number, lambda *_: None)
pid = os.fork()
if not pid:
    for number in (*quiet, 13, 25): signal.signal(number, signal.SIG_DFL)
    try: os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error: sys.stderr.write("%s: %s\\n" % (sys.argv[1], error.strerror))
    finally: os._exit(127)
status = os.waitpid(pid, 0)[1]
code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(os.environ["ICP_CODE"], "w") as stream:
    stream.write("%d %f %d\\n" % (code, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024))
def tracer(one):
    try:
        with open("/proc/%s/status" % one) as stream:
            return [text.split()[1] for text in stream if text.startswith("TracerPid:")][0]
    except (OSError, IndexError):
        return "0"
mine = tracer(os.getpid())
for one in os.listdir("/proc"):
    if one.isdigit() and int(one) != os.getpid() and mine != "0" and tracer(one) == mine:
        try: os.kill(int(one), 9)
        except OSError: pass
os._exit(128 - code if code < 0 else code)
"""
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGXCPU)


def marked(way: "Way", argv: "list[str]") -> "list[str]":
    """What to start through ``way`` in place of ``argv``: it writes down how that ended in the file ``$ICP_CODE``."""
    if way.counts:
        return ["/bin/sh", "-c", _MARK % way.last, "sh", *argv]
    return [sys.executable, "-I", "-S", "-c", _COUNT, *argv]


def seen(path: str) -> "tuple[int, float | None, int | None]":
    """(exit code, or -n by signal n; seconds of processor time and bytes of memory, or None where they were not counted). OSError,
    ValueError: its end was not seen.
    """
    with open(path) as stream:
        words = stream.read().split()
    if not words:
        raise ValueError("nothing was written")
    code = int(words[0])
    if len(words) == 3:
        return code, float(words[1]), int(words[2])
    return 128 - code if code > 128 and code - 128 in _SIGNALS else code, None, None


def said(path: str) -> str:
    """What was written there last; "" where that is nothing."""
    try:
        with open(path, errors="replace") as stream:
            return last_line(stream.read(64 * 1024))
    except OSError:
        return ""
