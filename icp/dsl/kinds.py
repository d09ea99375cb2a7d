"""The kinds of values in a steering file, as data: checks, JSON Schema and reference come from them (hides types)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from icp.dsl.names import COLUMN, NAME
from icp.dsl.syntax import START
from icp.dsl.units import DURATION, SIZE, duration, size

__all__ = [
    "ANYTHING",
    "CELL",
    "COLUMN_NAME",
    "COUNT",
    "DURATION_KIND",
    "FLAG",
    "MD5",
    "PLATFORM",
    "REPOSITORY",
    "SHA256",
    "SIZE_KIND",
    "TASK_NAME",
    "TEXT",
    "VARIABLE",
    "VARIABLE_NAME",
    "WRITTEN_SHA256",
    "Key",
    "Kind",
    "ListOf",
    "MapOf",
    "OneOf",
    "Scalar",
    "Table",
    "whole",
]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: ``accepts`` are its Python types, ``test`` says why it is wrong (None: right)."""

    expected: str
    accepts: tuple[type, ...]
    json: Mapping[str, Any]
    test: Callable[[Any], str | None] = lambda value: None


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array."""

    item: Kind
    expected: str
    least: int = 0


@dataclass(frozen=True, slots=True)
class MapOf:
    """A table whose keys are names that the user gives."""

    item: Kind
    pattern: re.Pattern[str]
    named: str
    expected: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """The first of these whose Python type fits."""

    kinds: tuple[Kind, ...]
    expected: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table with known keys."""

    keys: Mapping[str, Key]
    expected: str


Kind = Scalar | ListOf | MapOf | OneOf | Table


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: its kind, what it is for (a sentence), and what holds when it is left out."""

    kind: Kind
    doc: str
    default: str = ""
    required: bool = False
    examples: tuple[str, ...] = field(default=())


def _is_expression(value: str) -> bool:
    return any(not match.group(1) for match in START.finditer(value))


def _quantity(expected: str, parse: Callable[[Any], int]) -> Scalar:
    def test(value: Any) -> str | None:
        if isinstance(value, str) and _is_expression(value):
            return None
        try:
            parse(value)
        except (ValueError, OverflowError):
            return f"{value!r} is not valid"
        return None

    return Scalar(expected + ", or an expression", (str, int, float), {"type": ["string", "number"]}, test)


def whole(least: int, most: int | None = None, expression: bool = False) -> Scalar:
    """A whole number in this range; with ``expression`` also the text of one."""
    limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
    json: dict[str, Any] = {"type": "integer", "minimum": least}
    if most is not None:
        json["maximum"] = most

    def test(value: Any) -> str | None:
        if isinstance(value, str):
            return None if _is_expression(value) else f"{value!r} is not valid"
        return None if least <= value and (most is None or value <= most) else f"{value} is out of range"

    if expression:
        return Scalar(
            f"a whole number {limits}, or an expression", (int, str), {"anyOf": [json, {"type": "string"}]}, test
        )
    return Scalar(f"a whole number {limits}", (int,), json, test)


def _name(expected: str, pattern: re.Pattern[str]) -> Scalar:
    return Scalar(
        expected,
        (str,),
        {"type": "string", "pattern": "^" + pattern.pattern.replace("\\Z", "$")},
        lambda value: None if pattern.match(value) and len(value) <= 100 else f"{value[:60]!r} is not valid",
    )


TEXT = Scalar(
    "text", (str,), {"type": "string", "minLength": 1}, lambda value: None if value.strip() else "it is empty"
)
FLAG = Scalar("true or false", (bool,), {"type": "boolean"})
CELL = Scalar("text, a number, true or false", (str, int, float, bool), {"type": ["string", "number", "boolean"]})


def _plain(value: Any) -> str | None:
    """Why a value is none that JSON can hold."""
    if isinstance(value, dict | list):
        return next(filter(None, map(_plain, value.values() if isinstance(value, dict) else value)), None)
    if type(value) not in (str, int, float, bool):
        return f"the date or time {value} is not possible here"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not possible here"
    return None


ANYTHING = Scalar(
    "text, a number, true or false, or a list or table of these",
    (str, int, float, bool, list, dict),
    {"type": ["string", "number", "boolean", "array", "object"]},
    _plain,
)
VARIABLE = OneOf(
    (CELL, ListOf(CELL, "a list of texts and numbers")), "text, a number, true or false, or a list of them"
)


def _digest(name: str, digits: int) -> Scalar:
    shape = re.compile(rf"[0-9a-f]{{{digits}}}\Z")
    return Scalar(
        f"the {digits} lower hex digits of a {name}, or an expression",
        (str,),
        {"type": "string"},
        lambda value: None if shape.match(value) or _is_expression(value) else f"{value[:80]!r} is not valid",
    )


SHA256, MD5 = _digest("sha256", 64), _digest("md5", 32)
SIZE_KIND = _quantity(SIZE, size)
DURATION_KIND = _quantity(DURATION, duration)
COUNT = whole(1, 1_000_000_000)
TASK_NAME = _name("a name of letters, digits, '_', '.' and '-', that begins with a letter, a digit or '_'", NAME)
COLUMN_NAME = COLUMN
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
REPOSITORY = _name("the name of a repository, such as atlas.cern.ch", re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z"))
PLATFORM = _name(
    "any, or system-machine-libc such as linux-x86_64-glibc2.17",
    re.compile(r"(?:any|linux-[a-z0-9_]+(?:-(?:glibc|musl)(?:[0-9]+(?:\.[0-9]+)*)?)?)\Z"),
)
WRITTEN_SHA256 = _name("64 hexadecimal digits", re.compile(r"[0-9a-f]{64}\Z"))
