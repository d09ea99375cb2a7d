"""Named points where a test lets this process die, or lets the disk be full (hides how a fault is armed; costs nothing
when none is).

``ICP_FAULT`` holds ``name:N:/path/token[:action]``, several separated by ``;``. At the N-th visit of ``name`` in this
process, if the token could be unlinked (so it happens once, however many processes see it), the action is taken:
``kill`` (SIGKILL to itself, the default), ``enospc`` (OSError "no space left"), or ``torn`` (half of what was about to
be written, then SIGKILL).
"""

import errno
import os

__all__ = ["arm", "visit", "writing"]

_armed: "dict[str, list[list[object]]]" = {}


def arm(text: "str | None") -> None:
    """Takes the faults from this text in place of those there were; raises ValueError where it cannot be read."""
    import re

    _armed.clear()
    for spec in (text or "").split(";"):
        if not spec:
            continue
        match = re.match(r"^(.+?):(\d+):(.+?)(?::(kill|enospc|torn))?\Z", spec, re.DOTALL)
        if not match:
            raise ValueError(f"ICP_FAULT: {spec!r} is not name:N:/path/token[:kill|enospc|torn]")
        name, visits, token, action = match.groups()
        _armed.setdefault(name, []).append([int(visits), token, action or "kill"])


def _due(name: str, actions: "tuple[str, ...]") -> "str | None":
    for fault in _armed.get(name, ()):
        left, token, action = fault
        if action not in actions:
            continue
        assert isinstance(left, int)
        fault[0] = left - 1
        if fault[0] != 0:
            continue
        try:
            os.unlink(str(token))
        except OSError:
            continue
        return str(action)
    return None


def _act(action: "str | None") -> None:
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action is not None:
        os.kill(os.getpid(), 9)


def visit(name: str) -> None:
    """The process stands just behind this point."""
    if _armed:
        _act(_due(name, ("kill",) if name in _WRITES else ("kill", "enospc", "torn")))


def writing(name: str, fd: int, data: bytes) -> None:
    """The process is about to write this: the place of ``torn`` and ``enospc`` for points behind a write."""
    if _armed:
        action = _due(name, ("enospc", "torn"))
        if action == "torn":
            os.write(fd, data[: len(data) // 2])
        _act(action)


_WRITES = frozenset(["agent.fact_written"])

if "ICP_FAULT" in os.environ:
    arm(os.environ["ICP_FAULT"])
