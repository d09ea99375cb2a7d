"""Compares data with its kind, and collects every mistake (hides how a mistake is worded and where it stands)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icp.dsl.kinds import Kind, ListOf, MapOf, OneOf, Scalar, Table
from icp.dsl.locator import KeyPath, Position
from icp.dsl.syntax import BadExpression, nearest

__all__ = ["Mistake", "Mistakes", "check", "key_text"]

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake, or warning: where, what, what was expected, and the nearest right thing."""

    file: str
    line: int
    column: int
    key: str
    message: str
    expected: str = ""
    meant: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: "
        text += f"{self.key}: {self.message}" if self.key else self.message
        text += f"; expected {self.expected}" if self.expected else ""
        text += f"; did you mean {self.meant}?" if self.meant else ""
        # one mistake is one line, whatever is quoted in it
        return "".join(
            letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text.replace("\n", "\\n")
        )


def key_text(path: KeyPath) -> str:
    """A key path as TOML writes it, with [index] for arrays."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part and _BARE.issuperset(part)
            text += ("." if text else "") + (
                part if bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            )
    return text


class Mistakes:
    """Collects mistakes and warnings of one file; ``places`` says where its keys stand."""

    def __init__(self, file: str, places: Mapping[KeyPath, Position]) -> None:
        self.file = file
        self._places = places
        self._found: dict[Mistake, None] = {}
        self._warned: dict[Mistake, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def knows(self, path: KeyPath) -> bool:
        """Whether this key stands in the file."""
        return path in self._places

    def add(self, path: KeyPath, message: str, expected: str = "", meant: str | None = "") -> None:
        """A mistake at this key."""
        self._found[self._make(path, message, expected, meant or "")] = None

    def warn(self, path: KeyPath, message: str) -> None:
        """Something that works, and is probably not meant."""
        self._warned[self._make(path, message, "", "")] = None

    def expression(self, path: KeyPath, error: BadExpression) -> None:
        """Every mistake of an expression at this key."""
        for one in error.all:
            where = f"{one.expression[:100]}: " if one.expression else ""
            self.add(path, f"{where}{one.reason}", meant=one.meant)

    def _make(self, path: KeyPath, message: str, expected: str, meant: str) -> Mistake:
        known = path
        while known and known not in self._places:
            known = known[:-1]
        line, column = self._places.get(known, (1, 1))
        return Mistake(self.file, line, column, key_text(path), message, expected, meant)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """In the order of the file."""
        return tuple(sorted(self._found, key=lambda mistake: (mistake.line, mistake.column)))

    @property
    def warnings(self) -> tuple[Mistake, ...]:
        return tuple(sorted(self._warned, key=lambda mistake: (mistake.line, mistake.column)))


_WRONG = object()


def check(value: Any, kind: Kind, path: KeyPath, mistakes: Mistakes) -> Any:
    """The value without its wrong parts, each of which has become a mistake; None when nothing is left."""
    found = _check(value, kind, path, mistakes)
    return None if found is _WRONG else found


def _check(value: Any, kind: Kind, path: KeyPath, mistakes: Mistakes) -> Any:
    if isinstance(kind, OneOf):
        for choice in kind.kinds:
            if _fits(value, choice):
                return _check(value, choice, path, mistakes)
    elif _fits(value, kind):
        if isinstance(kind, Scalar):
            why = kind.test(value)
            if why is None:
                return value
            mistakes.add(path, why, kind.expected)
            return _WRONG
        if isinstance(kind, ListOf):
            return _check_list(value, kind, path, mistakes)
        if isinstance(kind, Table):
            return _check_table(value, kind, path, mistakes)
        return _check_map(value, kind, path, mistakes)
    mistakes.add(path, f"{_describe(value)} is not possible here", kind.expected)
    return _WRONG


def _fits(value: Any, kind: Kind) -> bool:
    if isinstance(kind, Scalar):
        return type(value) in kind.accepts
    if isinstance(kind, ListOf):
        return isinstance(value, list)
    if isinstance(kind, OneOf):
        return any(_fits(value, choice) for choice in kind.kinds)
    return isinstance(value, dict)


def _describe(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "the text " + repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else f"the date or time {value}"


def _check_list(value: list[Any], kind: ListOf, path: KeyPath, mistakes: Mistakes) -> Any:
    if len(value) < kind.least:
        mistakes.add(path, "the list is empty", kind.expected)
    checked = [_check(item, kind.item, (*path, index), mistakes) for index, item in enumerate(value)]
    return [None if item is _WRONG else item for item in checked]


def _check_table(value: dict[str, Any], kind: Table, path: KeyPath, mistakes: Mistakes) -> Any:
    clean: dict[str, Any] = {}
    for key, item in value.items():
        if key not in kind.keys:
            meant = nearest(key, kind.keys)
            expected = "" if meant else "one of " + ", ".join(kind.keys)
            mistakes.add((*path, key), f"there is no key {key!r} in {kind.expected}", expected, meant)
            continue
        checked = _check(item, kind.keys[key].kind, (*path, key), mistakes)
        if checked is not _WRONG:
            clean[key] = checked
    for key, about in kind.keys.items():
        if about.required and key not in value:
            mistakes.add(path, f"the key {key!r} is missing", about.kind.expected)
    return clean


def _check_map(value: dict[str, Any], kind: MapOf, path: KeyPath, mistakes: Mistakes) -> Any:
    clean: dict[str, Any] = {}
    for key, item in value.items():
        if not kind.pattern.match(key) or len(key) > 100:
            shape = "letters, digits, '_', '.' and '-', none of the last two first"
            mistakes.add((*path, key), f"{key[:60]!r} cannot name {kind.named}", shape)
        checked = _check(item, kind.item, (*path, key), mistakes)
        if checked is not _WRONG:
            clean[key] = checked
    return clean
