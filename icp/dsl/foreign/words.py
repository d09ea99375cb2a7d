"""Texts with expressions between NULs, as shell words and as names of files (hides every quote).

A NUL can stand in no argument, variable or name, so ``"out.\\0$args(job)\\0"`` says what is an expression and what is only text.
"""

from __future__ import annotations

import re

from icp.dsl.syntax import NAMES

__all__ = ["DATASET", "JOB", "expression", "is_plain", "name", "pattern_of", "sh"]

_OURS = re.compile(r"\$(?=(?:" + "|".join(NAMES) + r")\()")
_BARE = re.compile(r"[A-Za-z0-9_./:,@%+=-]+\Z")


def expression(text: str) -> str:
    """This expression, to stand inside a text."""
    return f"\0{text}\0"


JOB = expression("$args(job)")
DATASET = expression("$args(dataset)")


def is_plain(text: str) -> bool:
    """Whether no expression is in it."""
    return "\0" not in text


def sh(text: str) -> str:
    """One word of a text command, whatever is in it."""
    parts = text.split("\0")
    word = "".join(part if number % 2 else _quoted(part) for number, part in enumerate(parts))
    return word or "''"


def _quoted(part: str) -> str:
    if not part or _BARE.match(part):
        return part
    # a `$` that ends its quotes begins no expression
    return "'" + part.replace("'", "'\"'\"'").replace("$", "$''") + "'"


def name(text: str) -> str:
    """A name as a key of a steering file has it: where `$args(` is only text, it is escaped."""
    parts = text.split("\0")
    return "".join(part if number % 2 else _OURS.sub("$$", part) for number, part in enumerate(parts))


def pattern_of(text: str) -> str:
    """The pattern that matches this name only."""
    parts = text.split("\0")
    return "\0".join(part if number % 2 else re.sub(r"([*?[])", r"[\1]", part) for number, part in enumerate(parts))
