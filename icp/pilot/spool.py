"""The format of the spool: where each thing lies, and lines of a journal (hides every byte of it).

Pure but for :func:`check_root`: the engine reads journals with the very functions that the pilot uses.
"""

import collections
import json
import os
import re
import stat
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "BEGIN",
    "LINE_LIMIT",
    "SEGMENT_LIMIT",
    "BadName",
    "Position",
    "Spool",
    "Unsafe",
    "card_id",
    "check_agent",
    "check_digest",
    "check_id",
    "check_name",
    "check_parents",
    "check_root",
    "join_card_name",
    "line",
    "split_card_name",
    "take",
]

LINE_LIMIT = 64 * 1024
"""Bytes of a journal line, LF included."""
SEGMENT_LIMIT = 1024 * 1024
"""Bytes after which a journal goes on in its next segment."""

_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
_AGENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.(\d{1,6})\.([A-Za-z0-9]{1,64})$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_CARD = re.compile(r"^(\d{1,8})-([0-9a-f]{16})-([A-Za-z0-9_]{1,64})$")


class BadName(ValueError):
    """A name that must not become part of a path."""


class Unsafe(Exception):
    """A spool that somebody else could write to; the text says what is wrong with which directory."""


# --- names


def check_id(text: "Any") -> str:
    """An id of a pilot, attempt, card or need, returned as it is; raises BadName."""
    if isinstance(text, str) and _ID.match(text):
        return text
    raise BadName(f"{text!r} is not an id")


def check_agent(text: "Any") -> str:
    """An agent's id ``<pilot>.<node index>.<nonce>``; raises BadName."""
    if isinstance(text, str) and _AGENT.match(text):
        return text
    raise BadName(f"{text!r} is not an agent's id")


def check_digest(text: "Any") -> str:
    """64 lower hex digits; raises BadName."""
    if isinstance(text, str) and _DIGEST.match(text):
        return text
    raise BadName(f"{text!r} is not a sha256")


def check_name(text: "Any") -> str:
    """A declared file name: relative, no ``..`` or ``.`` or empty part, no NUL or LF, at most 255 bytes; raises
    BadName.
    """
    if isinstance(text, str) and text and "\0" not in text and "\n" not in text:
        parts = text.split("/")
        if not any(part in ("", ".", "..") for part in parts):
            try:
                if len(text.encode("utf-8")) <= 255:
                    return text
            except UnicodeEncodeError:
                pass
    raise BadName(f"{text!r} is not a relative file name of at most 255 bytes")


def join_card_name(priority: int, need: str, card: str) -> str:
    """The file name of a card: names sort by falling priority (0..5000; more is cut)."""
    return f"{5000 - max(0, min(5000, priority)):04d}-{need}-{card}"


def split_card_name(name: str) -> "tuple[str, str, str]":
    """(rank, need, card) of a card's file name; raises BadName."""
    match = _CARD.match(name)
    if not match:
        raise BadName(f"{name!r} is not the name of a card")
    return match.group(1), match.group(2), match.group(3)


def card_id(name: str) -> str:
    """The card's id, from its file name or from the id itself."""
    return name.rpartition("-")[2]


class Spool:
    """Every path of a spool; nothing is touched."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.owner = root + "/owner"
        self.lock = root + "/lock"
        self.incoming = root + "/incoming"
        self.applied = root + "/applied"
        self.needs = root + "/needs"
        self.inbox = root + "/inbox"
        self.agents = root + "/agents"
        self.fenced = root + "/fenced"
        self.recalled = root + "/recalled"
        self.cancel = root + "/control/cancel"
        self.drain = root + "/control/drain"
        self.pilots = root + "/pilots"
        self.store = root + "/store"
        self.logs = root + "/logs"
        self.cache = root + "/cache"
        self.fetched = root + "/cache/fetched"

    def folders(self) -> "list[str]":
        """The directories that a new spool has, parents first."""
        control = self.root + "/control"
        return [
            self.incoming,
            self.applied,
            self.needs,
            self.inbox,
            self.agents,
            self.fenced,
            self.recalled,
            control,
            self.cancel,
            self.drain,
            self.pilots,
            self.store,
            self.logs,
            self.cache,
        ]

    def need(self, need: str) -> str:
        return f"{self.needs}/{check_id(need)}.json"

    def agent(self, agent: str) -> str:
        return f"{self.agents}/{check_agent(agent)}"

    def pilot(self, pilot: str) -> str:
        return f"{self.pilots}/{check_id(pilot)}"

    def stored(self, attempt: str) -> str:
        return f"{self.store}/{check_id(attempt)}"

    def blob(self, sha256: str) -> str:
        return f"{self.cache}/{check_digest(sha256)}"

    def log(self, card: str) -> str:
        return f"{self.logs}/{check_id(card)}"

    def tail(self, attempt: str) -> str:
        return f"{self.logs}/{check_id(attempt)}.tail"


def check_root(root: str) -> None:
    """Raises Unsafe unless the spool is a directory of ours, 0700, no symbolic link, below parents that strangers
    cannot write to.

    Parents that a *group* may write to are let pass (project directories are so): members can take the spool away, but
    not put in its place one that is ours and 0700.
    """
    try:
        info = os.lstat(root)
    except OSError as error:
        raise Unsafe(f"{root}: {error.strerror}") from error
    if stat.S_ISLNK(info.st_mode):
        raise Unsafe(f"{root} is a symbolic link")
    if not stat.S_ISDIR(info.st_mode):
        raise Unsafe(f"{root} is not a directory")
    if info.st_uid != os.geteuid():
        raise Unsafe(f"{root} belongs to user {info.st_uid}")
    if info.st_mode & 0o077:
        raise Unsafe(f"{root} has mode {stat.S_IMODE(info.st_mode):04o}, expected 0700")
    check_parents(root)


def check_parents(root: str) -> None:
    """Raises Unsafe if a parent directory belongs to another user, or everybody may write to it (sticky ones
    excepted).
    """
    parent = os.path.dirname(os.path.realpath(root))
    while True:
        info = os.stat(parent)
        if info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX:
            raise Unsafe(f"everybody may write to {parent}, above {root}")
        if info.st_uid not in (0, os.geteuid()) and info.st_mode & 0o200 and not info.st_mode & stat.S_ISVTX:
            # Project areas belong to their administrator: only a parent that is as private as a home is suspicious.
            if not info.st_mode & 0o070:
                raise Unsafe(f"{parent}, above {root}, belongs to user {info.st_uid}")
        above = os.path.dirname(parent)
        if above == parent:
            return
        parent = above


# --- journals

Position = collections.namedtuple("Position", "segment offset seq")
"""How far a stream was read: segment, the offset in it, and the number of the last fact taken."""

BEGIN = Position(0, 0, 0)
"""Before the first fact."""


def line(fact: "dict[str, Any]") -> bytes:
    """A journal line: 8 hex of the crc32 of the JSON, a blank, the JSON, LF. ``fact`` has its number ``n``."""
    text = json.dumps(fact, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text) & 0xFFFFFFFF, text)


def _fact(raw: bytes) -> "dict[str, Any] | None":
    """The fact of a line without its LF, or None where the line is not right."""
    if len(raw) < 11 or len(raw) >= LINE_LIMIT or raw[8:9] != b" ":
        return None
    text = raw[9:]
    try:
        if int(raw[:8], 16) != zlib.crc32(text) & 0xFFFFFFFF:
            return None
        fact = json.loads(text.decode("ascii"))
    except ValueError:
        return None
    if type(fact) is dict and type(fact.get("n")) is int:
        return fact
    return None


def take(
    position: "Position", chunks: "Iterable[tuple[int, int, bytes]]", limit: "int | None" = None, oldest: bool = False
) -> "tuple[list[dict[str, Any]], Position]":
    """The facts that these bytes add to a stream read so far to ``position``, and the position behind them.

    ``chunks`` are (segment, offset, bytes) by rising segment, each beginning at an offset that was already reached. A
    line counts only if its checksum is right and its number is the last one + 1; a smaller number is skipped; anything
    else ends the segment, and reading goes on only in a later segment whose first line is right and not beyond the last
    number + 1. So every fact comes once and in order, whatever was torn or doubled. At most ``limit`` facts are taken:
    call again with the position returned. With ``oldest``, at ``BEGIN``, a stream whose first segments were deleted is
    read from the oldest that is left.
    """
    segment, offset, seq = position
    facts: list[dict[str, Any]] = []
    free = oldest and position == BEGIN
    for number, begin, data in chunks:
        if number < segment or (number == segment and begin > offset):
            continue
        if number > segment:
            if begin != 0:
                continue
            end = data.find(b"\n", 0, LINE_LIMIT)
            first = _fact(bytes(data[:end])) if end >= 0 else None
            if first is None or (first["n"] > seq + 1 and not free):
                continue
            if free:
                seq = first["n"] - 1
            segment, offset = number, 0
        free = False
        at = offset - begin
        while limit is None or len(facts) < limit:
            end = data.find(b"\n", at, at + LINE_LIMIT)
            fact = _fact(bytes(data[at:end])) if end >= 0 else None
            if fact is None or fact["n"] > seq + 1:
                break
            if fact["n"] == seq + 1:
                facts.append(fact)
                seq += 1
            at = end + 1
            offset = begin + at
        if limit is not None and len(facts) >= limit:
            break  # This segment may have more.
    return facts, Position(segment, offset, seq)
