"""The other side of :mod:`icp.pilot.warm`, in the task's Python: loads what a module imports, then forks (hides which
libraries can be shared, and how a fork becomes a task).
"""

import _signal  # type: ignore[import-not-found]  # what ``signal`` and ``socket`` wrap in enums
import _socket
import atexit
import gc
import importlib
import io
import itertools
import json
import marshal
import os
import struct
import sys
import threading
import warnings
from types import ModuleType

from . import python_step, warm_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Tuple

    Prepared = Tuple[ModuleType, CodeType]

__all__ = ["main"]

_THREADS_THAT_FORK = ("numpy",)
"""Libraries whose own threads end before a fork and come back after it (OpenBLAS, MKL)."""
_ONLY_TREE = 0x400
"""What ``ast`` calls PyCF_ONLY_AST."""
_REHEARSAL = """from icp.pilot.module import Module


class Rehearsal(Module):
    def execute(self, stats):
        stats["one"] = 1
"""
_REHEARSALS = 20
_SPARE = 4
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
_IGNORED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)


def main(text: str) -> int:
    """Hands over forks on the socket that is stdin, until that closes; in a fork: the task's exit code."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_IGN)  # A batch system may signal all; it ends with the agent.
    warm_fork.listen()
    about = json.loads(text)
    # Not stdin's own number: that becomes the task's stdin.
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    prepared: Prepared | None = None
    if about["module"]:
        importlib.import_module("icp.pilot.modules." + about["module"])
    else:
        prepared = _load(about["file"], about["roots"])
    if threading.active_count() > 1 or (_threads() > 1 and not any(one in sys.modules for one in _THREADS_THAT_FORK)):
        line.send(b"threads")
        return 1
    _rehearse(about["names"])
    known = len(sys.modules)
    compiled = warm_fork.machine_code(list(sys.modules))
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()  # novm: Pages that nobody writes to stay shared.
    sibling = warm_fork.sibling()
    wanted = _SPARE
    while wanted:
        for _ in range(wanted):
            mine = _fork(line, sibling)
            if mine is not None:
                return _spare(mine, prepared, known, compiled)
        wanted = len(line.recv(1))  # 1: another one; 0: the agent has ended
    return 0


def _load(path: str, roots: "list[str]") -> "Prepared | None":
    """Imports the libraries that the file imports (not what lies beside it: that is a task's own); the file, prepared.

    What goes wrong here goes wrong in the task too, and is told there.
    """
    try:
        prepared = python_step.prepare(path, roots[1:])
        with open(path, "rb") as stream:
            tree = compile(stream.read(), path, "exec", _ONLY_TREE, True)
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        kind = type(node).__name__
        if kind == "Import":
            for alias in node.names:
                _import(alias.name, (), roots)
        elif kind == "ImportFrom" and not node.level and node.module:
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


def _rehearse(names: "list[str]") -> None:
    """Does what every task does, so that what Python remembers of that (its caches, and where attributes were found) is
    in pages that forks share. Of a task itself nothing is run.
    """
    found = ModuleType("rehearsal")
    code = compile(_REHEARSAL, "rehearsal", "exec", dont_inherit=True)
    wanted = {"file": "rehearsal", "class": "Rehearsal", "params": {}}
    told = {
        "wanted": wanted,
        "work": ".",
        "out": os.devnull,
        "err": os.devnull,
        "env": dict.fromkeys(names, os.devnull),
    }
    message = marshal.dumps(told, 2)
    argv = sys.argv[:]
    for _ in range(_REHEARSALS):
        told = marshal.loads(message)  # noqa: S302 - our own
        _enter(told)
        python_step.run(told["wanted"], (found, code))
        for name in told["env"]:
            del os.environ[name]
        del sys.modules[found.__name__]
        warm_fork.machine_code(_since(len(sys.modules)))
        _flush()
    sys.argv[:] = argv


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _fork(line: "Any", sibling: "Any") -> "int | None":
    """In a fork: the descriptor on which it will be told what to be, after it was handed over on the line. Elsewhere None;
    where nothing can be forked, nothing is there to be used.

    The fork is nobody's child but the agent's: so it is waited for as any other task.
    """
    mine, agents = (one.detach() for one in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET))
    try:
        doing = _fork_twice() if sibling is None else None if sibling() else -1
    except OSError:
        doing = None
    if doing is None:
        os.close(mine)
        os.close(agents)
        return None
    line.sendmsg([b"%d" % os.getpid()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", agents))])
    os.close(agents)
    os.close(line.detach())
    if doing >= 0:
        os.close(doing)
    return mine


def _fork_twice() -> "int | None":
    """In a fork that is the child of one that ends when the descriptor is closed, as the agent takes in orphans."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which were looked at
        middle = _FORK()
        if middle:
            if middle > 0:
                os.waitpid(middle, 0)
            return None
        try:
            done, doing = os.pipe()
            if os.fork():
                os.close(doing)
                os.read(done, 1)  # The agent must know it before it finds it among its children.
                os._exit(0)
        except OSError:
            os._exit(1)
        os.close(done)
        return doing


def _spare(mine: int, prepared: "Prepared | None", known: int, compiled: bool) -> int:
    said = os.read(mine, 1 << 20)
    os.close(mine)
    if not said:
        os._exit(0)
    os.setsid()  # Until now its session told the agent what it was, should that meet it before it was handed over.
    return _task(marshal.loads(said), prepared, known, compiled)  # noqa: S302 - the agent's


def _task(told: "dict[str, Any]", prepared: "Prepared | None", known: int, compiled: bool) -> int:
    """Becomes a task of its own, as if it had been started for it."""
    for number in _IGNORED:
        _signal.signal(number, _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL)
    _enter(told)
    _reseed()
    result = python_step.run(told["wanted"], prepared)
    new = _since(known)
    if compiled or warm_fork.machine_code(new):
        return result  # Such libraries may have something to do at the end.
    _end(result, new)
    return result


def _enter(told: "dict[str, Any]") -> None:
    """Takes a task's directory, output and environment."""
    if hasattr(threading.main_thread(), "_set_native_id"):
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # noqa: SLF001 - 3.8; a fork leaves it
    os.chdir(told["work"])
    for fd, name in ((1, "out"), (2, "err")):
        file = os.open(told[name], os.O_WRONLY | os.O_APPEND)
        os.dup2(file, fd)
        os.close(file)
    for name, value in told["env"].items():
        os.environ[name] = value


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
    if threading.active_count() > 1 or getattr(threading, "_threading_atexits", True):
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Python itself calls first
    atexit._run_exitfuncs()  # noqa: SLF001
    for name in new:
        sys.modules.pop(name, None)
    gc.collect()
    _flush()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as Python has it
    os._exit(code)


def _flush() -> None:
    """Writes out what files have that were never closed."""
    for one in gc.get_objects():
        if isinstance(one, _FILE):
            try:
                one.flush()
            except (OSError, ValueError):
                pass  # closed, or not for writing
