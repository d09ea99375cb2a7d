"""How a warm interpreter forks a child of its parent's, at once (hides clone(2), and what is due around a fork).

Neither the C library nor Python knows of such a fork. What they do around their own forks is done here where it matters,
and left away where it does not, as there is one thread, only Python's own library, and no lock is held: all of it would take
longer than a short task.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["HOME", "listen", "machine_code", "sibling"]

HOME = os.path.dirname(os.__file__) + os.sep
"""Where Python's own library lies."""
_CALL = {"x86_64": (56, 3), "aarch64": (220, 4)}
"""The number of clone(2), and which of its arguments is the address of the child's thread number."""
_FLAGS = 0x00008000 | 0x00200000 | 0x01000000 | 17
"""CLONE_PARENT; the rest is what glibc's own fork asks for: CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, SIGCHLD."""
_PR_GET_TID_ADDRESS = 40
_GLIBC = (2, 25)
"""An older one remembers the number of its process, and would tell that of the parent."""
_ASK = ("_ssl", "_hashlib", "_tkinter", "logging", "concurrent.futures.thread", "asyncio.events")
"""Parts of Python's own library that want to know of forks: in C, where nobody can see it, or (the last) in Python."""
_heard: "dict[str, list[Callable[[], Any]]]" = {"before": [], "after_in_parent": [], "after_in_child": []}
_early: "list[str]" = []
_register: "Any" = getattr(os, "register_at_fork", None)  # 3.7


def listen() -> None:
    """Notes from now on what Python code asks to be called around forks."""
    _early.extend(sys.modules)
    if _register is not None:
        os.register_at_fork = _noted  # type: ignore[assignment]  # novm


def _noted(**functions: "Callable[[], Any]") -> None:
    _register(**functions)
    for when, function in functions.items():
        _heard[when].append(function)


def machine_code(names: "Any") -> bool:
    """Whether one of these modules is a library in machine code that does not belong to Python itself."""
    files = [getattr(sys.modules.get(name), "__file__", None) or "" for name in names]
    return any(one.endswith(".so") and _foreign(one) for one in files)


def _foreign(path: str) -> bool:
    return not path.startswith(HOME) or "-packages" in path


def sibling() -> "Callable[[], int] | None":
    """A function as ``os.fork`` whose child has this process's parent; None where it would not be as good."""
    if _register is not None:
        os.register_at_fork = _register  # novm
    # Hooks of installed packages (their names begin with "_") have been there before this listened.
    unheard = [name for name in _early if name in _ASK[3:] or (name[:1] != "_" and name.partition(".")[0] != "icp"
               and _foreign(getattr(sys.modules.get(name), "__file__", None) or HOME))]  # fmt: skip
    if sys.version_info < (3, 8):
        return None  # It hears of signals only in the process that it believes to be.
    if unheard or any(name in sys.modules for name in _ASK[:3]) or machine_code(list(sys.modules)):
        return None
    try:
        import ctypes

        libc, version = os.confstr("CS_GNU_LIBC_VERSION").split()  # type: ignore[union-attr]
        number, place = _CALL[os.uname().machine]
        address = ctypes.c_ulong()
        known = libc == "glibc" and tuple(int(one) for one in version.split(".")[:2]) >= _GLIBC
        if not known or ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0:
            return None
        # PyDLL keeps the interpreter's lock: nobody waits for it.
        call = ctypes.PyDLL(None).syscall
    except (ImportError, OSError, AttributeError, KeyError, ValueError):
        return None
    call.argtypes, call.restype = [ctypes.c_long] + [ctypes.c_ulong] * 5, ctypes.c_long
    arguments = [number, _FLAGS, 0, 0, 0, 0]
    arguments[1 + place] = address.value

    def fork() -> int:
        for function in reversed(_heard["before"]):
            function()
        pid: int = call(*arguments)
        for function in _heard["after_in_parent" if pid else "after_in_child"]:
            function()
        if pid < 0:
            raise OSError("clone failed")
        return pid

    return fork
