"""What a site tells: agents, journals, files, logs, batch system, health (hides how each is read; changes nothing
but late cards of the fenced).
"""

import errno
import os
import stat

from . import framing, journal, orders, spool
from .disk import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["Absent", "Answer", "agents", "open_below", "piece", "reply"]

BATCH_TIMEOUT = 30.0
"""Seconds for one question to the batch system."""
_BATCH_LIMIT = 2 * 1000 * 1000
_CHUNK = spool.SEGMENT_LIMIT


class Answer:
    """The frames of an answer, counted; ``more`` is set when something had to wait for the next one."""

    def __init__(self, out: "BinaryIO", limit: int = framing.ANSWER_LIMIT) -> None:
        self._out = out
        self.room = limit
        self.more = False

    def send(self, kind: str, meta: "Any", body: bytes = b"") -> None:
        data = framing.frame(kind, meta, body)
        self._out.write(data)
        self.room -= len(data)

    def end(self) -> None:
        self.send("end", {"more": self.more})
        self._out.flush()


def agents(where: spool.Spool, fenced: "list[str]", disk: Disk) -> "list[list[Any]]":
    """[agent, place, {stream: [[segment, bytes]...]}, [cards claimed], [cards recalled]] of every agent.

    Of the agents in ``fenced`` the cards that turned up late are recalled first, unless a fact says that they were
    begun.
    """
    found: list[list[Any]] = []
    for place, parent in (("agents", where.agents), ("fenced", where.fenced)):
        for agent in sorted(os.listdir(parent)):
            folder = f"{parent}/{agent}"
            try:
                spool.check_agent(agent)
                streams = {name: journal.segments(folder, name) for name in ("journal", "supervisor")}
                recalled: list[str] = []
                if place == "fenced" and agent in fenced:
                    recalled = orders.recall_unbegun(where, agent, disk)["unbegun"]
                cards = [spool.card_id(name) for name in orders.claimed(folder)]
            except (spool.BadName, OSError):
                continue
            found.append([agent, place, {name: some for name, some in streams.items() if some}, cards, recalled])
    return found


def reply(answer: Answer, where: spool.Spool, listed: "list[list[Any]]", query: "dict[str, Any]") -> None:
    """Everything that the query asks for, as far as there is room: the batch system and health, journals, then
    files and logs.
    """
    for index, argv in enumerate(query.get("batch") or ()):
        result = orders.run_command(orders.fill(argv, where.root, None), None, BATCH_TIMEOUT, _BATCH_LIMIT)
        answer.send(
            "batch", {"index": index, "rc": result["rc"], "err": result["err"][-4000:]}, result["out"].encode("utf-8")
        )
    for pilot in query.get("ended") or ():
        _tail(answer, where, pilot)
    answer.send("health", health(where.root))
    positions = query.get("streams") or {}
    for agent, place, streams, _, _ in listed:
        folder = f"{where.agents if place == 'agents' else where.fenced}/{agent}"
        for stream, found in sorted(streams.items()):
            _journal(answer, folder, agent, stream, found, positions.get(f"{agent}/{stream}") or (0, 0, 0))
    for attempt, index, name, offset, length in query.get("want") or ():
        _file(answer, where, attempt, index, name, offset, length)
    for name, offset, length in query.get("logs") or ():
        _log(answer, where, name, offset, length)
    if query.get("cards"):
        _cards(answer, where, listed)
        stored = sorted(os.listdir(where.store))
        for at in range(0, len(stored), 50000):
            answer.send("stored", stored[at : at + 50000])


def _tail(answer: Answer, where: spool.Spool, pilot: str) -> None:
    """The last that a pilot's batch job printed: on its standard error if there is any, else on its output."""
    folder = where.pilot(pilot)
    for name in ("stderr", "out", "stdout"):
        try:
            size = os.stat(f"{folder}/{name}").st_size
            data, _ = piece(folder, name, max(0, size - 2000), 2000)
        except (spool.BadName, Absent, OSError):
            continue
        if data.strip():
            answer.send("tail", {"pilot": pilot}, data)
            return


def _cards(answer: Answer, where: spool.Spool, listed: "list[list[Any]]") -> None:
    """Every card that waits, that an agent holds or that went with its job, with its content: for a ledger that forgot them."""
    places = [("inbox", where.inbox)]
    for agent, place, _, _, _ in listed:
        places.append((agent, f"{where.agents if place == 'agents' else where.fenced}/{agent}/claimed"))
    for owner, folder in places:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            try:
                with open(f"{folder}/{name}", "rb") as source:
                    answer.send("card", {"place": owner, "name": name}, source.read())
            except OSError:
                continue
    from . import bag

    for about, card in bag.submitted(where):
        answer.send("bag", about, card)


def health(root: str) -> "dict[str, Any]":
    """Bytes and inodes that are free for us where the spool lies; ``quota`` is not known here."""
    info = os.statvfs(root)
    return {"free": info.f_bavail * info.f_frsize, "inodes": info.f_favail if info.f_files else None, "quota": None}


def _journal(
    answer: Answer,
    folder: str,
    agent: str,
    stream: str,
    found: "list[tuple[int, int]]",
    position: "tuple[int, int, int]",
) -> None:
    segment, offset = int(position[0]), int(position[1])
    for number, size in found:
        begin = offset if number == segment else 0
        if number < segment or size <= begin:
            continue
        if answer.room < 2 * spool.LINE_LIMIT:
            answer.more = True
            return
        try:
            with open(f"{folder}/{stream}.{number}", "rb") as source:
                source.seek(begin)
                data = source.read(min(answer.room - spool.LINE_LIMIT, 4 * _CHUNK))
        except OSError:
            continue
        answer.send("journal", {"agent": agent, "stream": stream, "segment": number, "offset": begin}, data)
        if begin + len(data) < size:
            answer.more = True
            return


def _file(answer: Answer, where: spool.Spool, attempt: str, index: int, name: str, offset: int, length: int) -> None:
    if answer.room < 2 * spool.LINE_LIMIT:
        answer.more = True
        return
    meta: "dict[str, Any]" = {"attempt": attempt, "index": index, "name": name}
    try:
        data, size = piece(where.stored(attempt), name, offset, min(length, answer.room - spool.LINE_LIMIT))
    except (spool.BadName, Absent) as error:
        answer.send("missing", dict(meta, why=str(error)))
        return
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            answer.send("missing", dict(meta, why=error.strerror))
        # What a file system says while it is ill is no evidence: no answer, and the engine will ask again.
        return
    answer.send("file", dict(meta, offset=offset, size=size), data)
    if len(data) < min(length, size - offset):
        answer.more = True


class Absent(Exception):
    """What was asked for is there, but is not what an output is."""


def piece(folder: str, name: str, offset: int, length: int) -> "tuple[bytes, int]":
    """(bytes from ``offset``, size of the whole file); BadName, Absent, OSError."""
    fd = open_below(folder, spool.check_name(name))
    with os.fdopen(fd, "rb") as source:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Absent("not a regular file")
        if offset < 0 or offset > info.st_size:
            raise Absent(f"shorter than {offset} bytes")
        source.seek(offset)
        return source.read(max(0, length)), info.st_size


def open_below(folder: str, name: str) -> int:
    """A descriptor to read ``folder/name``, where no part is a symbolic link; OSError."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        parts = name.split("/")
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        # Not to hang on a named pipe that a task left there.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)


def _log(answer: Answer, where: spool.Spool, name: str, offset: int, length: int) -> None:
    """A pack (``<card>``) or a tail (``<attempt>.tail``); size None where there is none."""
    if answer.room < 2 * spool.LINE_LIMIT:
        answer.more = True
        return
    data = b""
    size: int | None = None
    try:
        plain = spool.check_id(name[:-5] if name.endswith(".tail") else name)
        path = where.tail(plain) if name.endswith(".tail") else where.log(plain)
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            source.seek(offset)
            data = source.read(max(0, min(length, answer.room - spool.LINE_LIMIT)))
    except (spool.BadName, OSError, ValueError):
        pass
    answer.send("log", {"name": name, "offset": offset, "size": size}, data)
    if size is not None and len(data) < min(length, size - offset):
        answer.more = True
