"""Where expressions are in a text: ``$name(...)`` with one of our names (hides brackets, quotes and ``$$``)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "NAMES",
    "START",
    "BadExpression",
    "Call",
    "call_at",
    "literal",
    "nearest",
    "split",
    "split_list",
    "strange_calls",
    "together",
    "unquoted",
]

NAMES = ("args", "steering", "system", "attr", "eval", "sprintf", "choice")
"""The names that make ``$name(`` an expression; any other ``$`` is somebody else's."""

MAX_DEPTH = 20
"""Expressions inside expressions, at most."""

START = re.compile(r"\$(\$?)(" + "|".join(NAMES) + r")\(")
_STRANGE = re.compile(r"(?<!\$)\$([A-Za-z_]\w*)\(")
_QUOTING = ("eval", "sprintf", "choice")


class BadExpression(ValueError):
    """An expression that cannot be understood or has no value: which, why, and the nearest right one."""

    def __init__(self, expression: str, reason: str, meant: str | None = None) -> None:
        super().__init__(f"{expression}: {reason}")
        self.expression = expression
        self.reason = reason
        self.meant = meant
        self.others: tuple[BadExpression, ...] = ()

    @property
    def all(self) -> tuple[BadExpression, ...]:
        """This one and the others of the same text."""
        return (self, *self.others)


def together(problems: Iterable[BadExpression]) -> BadExpression:
    """The first of these, which holds the others."""
    first, *others = [BadExpression(one.expression, one.reason, one.meant) for one in problems]
    first.others = tuple(others)
    return first


@dataclass(frozen=True, slots=True)
class Call:
    """One ``$name(body)``; ``start`` and ``end`` are its place in the text that it was found in."""

    name: str
    body: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return f"${self.name}({self.body})"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like this one, or None when none is like it."""
    names = list(known)
    found = difflib.get_close_matches(word, names, 1, 0.6) or difflib.get_close_matches(word.lower(), names, 1, 0.6)
    return found[0] if found else None


def call_at(text: str, match: re.Match[str], depth: int = 0) -> Call:
    """The expression that begins at this match of START; BadExpression if it does not end."""
    if depth > MAX_DEPTH:
        raise BadExpression(text[match.start() : match.start() + 40], f"expressions are nested deeper than {MAX_DEPTH}")
    name, start = match.group(2), match.start()
    quoting = name in _QUOTING
    position, open_brackets, quote = match.end(), 1, ""
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif quoting and letter in "'\"":
            quote = letter
        elif letter == "(":
            open_brackets += 1
        elif letter == ")":
            open_brackets -= 1
            if not open_brackets:
                return Call(name, text[match.end() : position], start, position + 1)
        elif letter == "$":
            inner = START.match(text, position)
            if inner is not None and not inner.group(1):
                position = call_at(text, inner, depth + 1).end
                continue
        position += 1
    what = f"the quote {quote} is not closed" if quote else "the bracket is not closed"
    raise BadExpression(text[start : start + 40], what)


def split(text: str) -> list[str | Call]:
    """The text as pieces of literal text and expressions; ``$$name(`` has become a literal ``$name(``."""
    pieces: list[str | Call] = []
    plain: list[str] = []
    position = 0
    while True:
        match = START.search(text, position)
        if match is None:
            break
        plain.append(text[position : match.start()])
        if match.group(1):
            plain.append(f"${match.group(2)}(")
            position = match.end()
            continue
        call = call_at(text, match)
        if before := "".join(plain):
            pieces.append(before)
        plain = []
        pieces.append(call)
        position = call.end
    plain.append(text[position:])
    if rest := "".join(plain):
        pieces.append(rest)
    return pieces


def literal(text: str) -> str:
    """The text with ``$$name(`` as ``$name(``, for places where nothing is an expression."""
    return START.sub(lambda match: f"${match.group(2)}(" if match.group(1) else match.group(0), text)


def strange_calls(text: str) -> list[tuple[str, str | None]]:
    """Every ``$word(`` whose word is not ours, with the nearest of our names."""
    return [(m.group(1), nearest(m.group(1), NAMES)) for m in _STRANGE.finditer(text) if m.group(1) not in NAMES]


def split_list(body: str) -> list[str]:
    """The parts of ``a, "b, c", $eval(max(1, 2))`` at its outer commas, without the blanks around them."""
    parts: list[str] = []
    start = position = 0
    depth, quote = 0, ""
    while position < len(body):
        letter = body[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and not depth:
            parts.append(body[start:position].strip())
            start = position + 1
        position += 1
    parts.append(body[start:].strip())
    return parts


def unquoted(part: str) -> tuple[str, bool]:
    """The part without the quotes around it, and whether it had any; ``\\`` before a quote or itself is taken away."""
    if len(part) >= 2 and part[0] == part[-1] and part[0] in "'\"":
        return re.sub(r"\\([\\'\"])", r"\1", part[1:-1]), True
    return part, False
