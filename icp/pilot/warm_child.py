"""The other side of :mod:`icp.pilot.warm`, in the task's Python: loads what a module imports, then forks (hides which
libraries can be shared, and how a fork becomes a task).
"""

import ast
import atexit
import gc
import importlib
import io
import itertools
import json
import os
import signal
import socket
import struct
import sys
import sysconfig
import threading
import warnings

from . import python_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, Tuple

    Prepared = Tuple[ModuleType, CodeType]

__all__ = ["main"]

_THREADS_THAT_FORK = ("numpy",)
"""Libraries whose own threads end before a fork and come back after it (OpenBLAS, MKL)."""
_SPARE = 3
"""Forks that wait for a task: so many are at hand when several tasks end at once."""


def _plain_fork() -> "Any":
    """fork(2) without what Python does after it in the child: that costs more than the fork, and who is only to fork
    once more and end needs none of it.
    """
    try:
        import ctypes

        return ctypes.PyDLL(None).fork  # PyDLL: the interpreter's lock is kept.
    except (ImportError, OSError, AttributeError):
        return os.fork


_FORK = _plain_fork()
_FILE: "Any" = io.IOBase.__bases__[0]
_HOME = sysconfig.get_paths()["stdlib"] + os.sep
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(text: str) -> int:
    """Hands over forks on the socket that is stdin, until that closes; in a fork: the task's exit code."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)  # A batch system may signal all; it ends with the agent.
    about = json.loads(text)
    # Not stdin's own number: that becomes the task's stdin.
    line = socket.fromfd(0, socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    prepared: Prepared | None = None
    if about["module"]:
        importlib.import_module("icp.pilot.modules." + about["module"])
    else:
        prepared = _load(about["file"], about["roots"])
    if threading.active_count() > 1 or (_threads() > 1 and not any(one in sys.modules for one in _THREADS_THAT_FORK)):
        line.send(b"threads")
        return 1
    known = len(sys.modules)
    compiled = _compiled(list(sys.modules))
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()  # novm: Pages that nobody writes to stay shared.
    wanted = _SPARE
    while wanted:
        for _ in range(wanted):
            mine = _fork(line)
            if mine is not None:
                return _spare(mine, prepared, known, compiled)
        wanted = len(line.recv(1))  # 1: another one; 0: the agent has ended
    return 0


def _load(path: str, roots: "list[str]") -> "Prepared | None":
    """Imports the libraries that the file imports (not what lies beside it: that is a task's own); the file, prepared.

    What goes wrong here goes wrong in the task too, and is told there.
    """
    try:
        with open(path, "rb") as stream:
            source = stream.read()
        tree = ast.parse(source)
        prepared = python_step.prepare(path, roots[1:])
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                _import(alias.name, (), roots)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            _import(node.module, [alias.name for alias in node.names], roots)
    return prepared


def _import(name: str, parts: "Any", roots: "list[str]") -> None:
    first = name.partition(".")[0]
    if any(os.path.exists(f"{root}/{first}{end}") for root in roots for end in ("", ".py")):
        return
    try:
        found = importlib.import_module(name)
        for part in parts:
            if part != "*" and not hasattr(found, part):
                importlib.import_module(f"{name}.{part}")
    except BaseException:  # noqa: S110 - the task meets the same, and tells it
        pass


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _compiled(names: "Any") -> bool:
    """Whether one of these modules is a library in machine code that does not belong to Python itself."""
    files = [getattr(sys.modules.get(name), "__file__", None) or "" for name in names]
    return any(one.endswith(".so") and (not one.startswith(_HOME) or "-packages" in one) for one in files)


def _fork(line: "Any") -> "Any":
    """In a fork: the socket on which it will be told what to be, after it was handed over on the line. Elsewhere None;
    where nothing can be forked, nothing is there to be used.

    The fork is nobody's child but the agent's, as that takes in orphans: so it is waited for as any other task.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which were looked at
        try:
            middle = _FORK()
        except OSError:
            return None
        if middle < 0:
            return None
        if middle:
            os.waitpid(middle, 0)
            return None
        done, doing = os.pipe()
        try:
            if os.fork():
                os.close(doing)
                os.read(done, 1)  # The agent must know it before it finds it among its children.
                os._exit(0)
        except OSError:
            os._exit(1)
    os.setsid()  # Before it is handed over: who knows a task's number may signal its session.
    mine, agents = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.sendmsg([b"%d" % os.getpid()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", agents.fileno()))])
    line.close()
    agents.close()
    os.close(doing)
    os.close(done)
    return mine


def _spare(mine: "Any", prepared: "Prepared | None", known: int, compiled: bool) -> int:
    said = mine.recv(1 << 20)
    mine.close()
    if not said:
        os._exit(0)
    return _task(json.loads(said.decode("ascii")), prepared, known, compiled)


def _task(told: "dict[str, Any]", prepared: "Prepared | None", known: int, compiled: bool) -> int:
    """Becomes a task of its own, as if it had been started for it."""
    for number in _IGNORED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(told["work"])
    for fd, name in ((1, "out"), (2, "err")):
        file = os.open(told[name], os.O_WRONLY | os.O_APPEND)
        os.dup2(file, fd)
        os.close(file)
    os.environ.update(told["env"])
    _reseed()
    result = python_step.run(told["wanted"], prepared)
    new = _since(known)
    if compiled or _compiled(new):
        return result  # Such libraries may have something to do at the end.
    _end(result, new)
    return result


def _since(known: int) -> "list[str]":
    """The modules that were imported after so many. (To look at the others would make pages of them this task's own.)"""
    try:
        return list(itertools.islice(reversed(sys.modules), max(0, len(sys.modules) - known)))
    except TypeError:  # before 3.8
        return list(sys.modules)[known:]


def _reseed() -> None:
    """What draws at random does not draw the same in each fork (Python's own does so itself since 3.7)."""
    for name in ("random", "numpy.random"):
        found = sys.modules.get(name)
        if found is not None:
            found.seed()


def _end(code: int, new: "list[str]") -> None:
    """Ends at once, after all that Python does at its end which anybody could see: threads are waited for, exit
    functions called, objects of the task dropped, files flushed. Taking the interpreter apart would take longer than all the rest.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Python itself calls first
    atexit._run_exitfuncs()  # noqa: SLF001
    for name in new:
        sys.modules.pop(name, None)
    gc.collect()
    for one in gc.get_objects():
        if isinstance(one, _FILE):
            try:
                one.flush()
            except (OSError, ValueError):
                pass  # closed, or not for writing
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as Python has it
    os._exit(code)
