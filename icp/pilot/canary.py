"""Whether a site is what pilots need: a job and a process of the login node meet in a spool, and measure what lies between
them (hides the files by which they talk).

The one of the login node (``watch``, detached, or ``meet``, in a session) waits until the job (``work``) says hello, then both
send numbered notes to and fro. Each first note says what its writer holds: a file that was made with O_EXCL, and a lock.
"""

import errno
import fcntl
import json
import os
import sys
import time

from . import node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["carried", "look", "meet", "watch", "work"]

ROUNDS = 5
_POLL = 0.02
_BEAT = 5.0
_TAIL = 4000
_LINGER = 300


def _write(folder: str, name: str, value: "Any") -> None:
    temporary = f"{folder}/{name}.tmp"
    with open(temporary, "w") as stream:
        json.dump(value, stream, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, f"{folder}/{name}")


def _read(folder: str, name: str) -> "dict[str, Any] | None":
    try:
        with open(f"{folder}/{name}") as stream:
            value = json.load(stream)
        return value if isinstance(value, dict) else None
    except (OSError, ValueError):
        return None


def _await(folder: str, name: str, seconds: float, poll: float = _POLL) -> "dict[str, Any] | None":
    """The note of this name when it is there; the folder is listed, as agents do: a name that was looked for in vain
    is remembered by NFS.
    """
    end = time.time() + seconds
    while True:
        if name in os.listdir(folder):
            found = _read(folder, name)
            if found is not None:
                return found
        if time.time() > end:
            return None
        time.sleep(poll)


def _hold(folder: str, who: str) -> "tuple[bool, int]":
    """Makes ``excl.WHO`` and locks ``lock.WHO``: (whether there are locks here at all, the descriptor)."""
    os.close(os.open(f"{folder}/excl.{who}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    fd = os.open(f"{folder}/lock.{who}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False, fd
    return True, fd


def _test(folder: str, who: str) -> "dict[str, Any]":
    """What the other side holds, as seen from here."""
    try:
        os.close(os.open(f"{folder}/excl.{who}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        excl = False
    except FileExistsError:
        excl = True
    lock: "bool | None" = None
    try:
        fd = os.open(f"{folder}/lock.{who}", os.O_RDWR)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = False
        except OSError as error:
            lock = True if error.errno in (errno.EACCES, errno.EAGAIN) else None
        os.close(fd)
    except OSError:
        pass
    return {"excl": excl, "lock": lock}


def _hello() -> "dict[str, Any]":
    """Who the worker is."""
    hello = {"host": node.host(), "python": sys.version.split()[0], "executable": sys.executable, "boot": node.boot_id()}
    return dict(hello, t=time.time(), cpus=len(os.sched_getaffinity(0)))


def carried(root: str, software: "dict[str, Any] | None" = None) -> int:
    """The job's side where no file system is shared: what came along is said in what is brought back."""
    with open(root) as stream:
        came = stream.read(_TAIL)
    _write(os.path.dirname(os.path.abspath(root)), "back", dict(_hello(), came=came, software=_survey(software)))
    return 0


def _survey(software: "dict[str, Any] | None") -> "dict[str, Any]":
    """Which ways to software this node has, and what else work may want of it."""
    from .checkup import has
    from .software import survey

    try:
        return dict(survey(software or {}, whole=True), has=has())
    except OSError as error:
        return {"platform": "?", "ways": [], "why": str(error)}


def work(root: str, index: str, seconds: float, software: "dict[str, Any] | None" = None) -> int:
    """The job's side: 0 when the other side said goodbye, 3 when it never came. ``software``: what agents are told of it."""
    if index != "0":
        return 0
    folder = root + "/canary"
    try:
        os.mkdir(folder, 0o700)  # the job may be faster than the other side
    except FileExistsError:
        pass
    _write(folder, "hello", _hello())
    locks, fd = _hold(folder, "work")
    _write(folder, "software", _survey(software))
    for number in range(ROUNDS):
        note = _await(folder, f"login.{number}", seconds)
        if note is None:
            sys.stderr.write("canary: the login node's side did not answer\n")
            return 3
        said: "dict[str, Any]" = {"t": time.time()}
        if number == 0:
            said.update(_test(folder, "login"), locks=locks)
        _write(folder, f"work.{number}", said)
    done = _await(folder, "result", seconds)
    os.close(fd)
    return 0 if done is not None else 3


def meet(root: str, seconds: float) -> int:
    """The login node's side: waits for the job, measures, and writes ``result``; 0, or 3 where the job did not come or
    went silent.
    """
    folder = root + "/canary"
    end = time.time() + seconds
    poll = 0.2
    hello = None
    while hello is None:
        if time.time() > end or not os.path.isdir(folder):
            return 3
        if os.path.exists(folder + "/watcher"):
            _beat(folder)
        hello = _await(folder, "hello", 0) if os.path.isdir(folder) else None
        if hello is None:
            time.sleep(poll)
            poll = min(_BEAT, poll * 1.2)
    try:
        locks, fd = _hold(folder, "login")
    except FileExistsError:
        return 4  # another one of this side is at it
    trips, skews = [], []
    seen: "dict[str, Any]" = {}
    mine: "dict[str, Any]" = {}
    for number in range(ROUNDS):
        sent = time.time()
        _write(folder, f"login.{number}", {"t": sent})
        note = _await(folder, f"work.{number}", 90)
        got = time.time()
        if note is None:
            _write(folder, "result", {"ok": False, "why": f"the job fell silent after {number} notes", "hello": hello})
            return 3
        if number == 0:
            seen, mine = note, _test(folder, "work")
        trips.append(got - sent)
        skews.append((got - sent, note["t"] - (sent + got) / 2))
    best = min(skews)
    result = {
        "ok": True,
        "hello": hello,
        "login": {"host": node.host(), "boot": node.boot_id()},
        "there": {"excl": seen.get("excl"), "lock": seen.get("lock") if locks else None},
        "back": {"excl": mine["excl"], "lock": mine["lock"] if seen.get("locks") else None},
        "lag": round(max(trips), 3),
        "skew": round(best[1], 3),
        "skew_error": round(best[0] / 2, 3),
    }
    _write(folder, "result", result)
    os.close(fd)
    return 0


def _beat(folder: str) -> None:
    with open(folder + "/beat", "w") as stream:
        stream.write(str(time.time()))


def _linger(folder: str) -> None:
    """Stays until the place is cleared away: that this process lives on after the logout is still to be seen."""
    end = time.time() + _LINGER
    while time.time() < end:
        if not os.path.isdir(folder):
            return
        time.sleep(0.5)
    _write(folder, "farewell", {"t": time.time()})


def watch(root: str, seconds: float) -> int:
    """Starts ``meet`` detached, in a session of its own; prints its pid. That it lives on after the login is looked at later."""
    folder = root + "/canary"
    os.makedirs(folder, 0o700, exist_ok=True)
    known = _read(folder, "watcher")
    if known is not None:
        sys.stdout.write(json.dumps(known) + "\n")
        return 0
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            os.close(reader)
            null = os.open(os.devnull, os.O_RDWR)
            for target in (0, 1, 2):
                os.dup2(null, target)
            os.chdir("/")
            me = os.getpid()
            entry = {"pid": me, "start": node.start_time(me), "boot": node.boot_id(), "host": node.host()}
            _write(folder, "watcher", entry)
            _beat(folder)
            os.write(writer, json.dumps(entry).encode("ascii"))
            os.close(writer)
            meet(root, seconds)
            _linger(folder)
        finally:
            os._exit(0)
    os.close(writer)
    os.wait()
    with os.fdopen(reader, "rb") as stream:
        told = stream.read().decode("ascii")
    sys.stdout.write(told + "\n")
    return 0 if told else 1


def look(root: str, pilot: str) -> int:
    """Prints where a check stands: {"watcher": "running" | "done" | "ended" | "elsewhere" | None, "hello", "result", "back",
    "out", "err"}.
    """
    folder = root + "/canary"
    told: "dict[str, Any]" = {"hello": _read(folder, "hello"), "result": _read(folder, "result"), "watcher": None}
    told["back"] = _read(f"{root}/pilots/{pilot}", "back")
    told["software"] = _read(folder, "software") or (told["back"] or {}).get("software")
    told["there"] = os.path.isdir(root)
    entry = _read(folder, "watcher")
    if entry is not None:
        lives = entry["boot"] == node.boot_id() and node.alive(entry["pid"], entry["start"])
        if _read(folder, "farewell") is not None:
            told["watcher"] = "done"
        else:
            told["watcher"] = "elsewhere" if entry["host"] != node.host() else "running" if lives else "ended"
    for word, names in (("out", ("stdout", "out")), ("err", ("stderr",))):
        for name in names:
            try:
                with open(f"{root}/pilots/{pilot}/{name}", "rb") as stream:
                    stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
                    told[word] = stream.read().decode("utf-8", "replace")
            except OSError:
                continue
    told["now"] = time.time()
    sys.stdout.write(json.dumps(told, sort_keys=True) + "\n")
    return 0
