"""Values and tables as TOML, with comments at their places (hides quotes and line lengths)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Comment", "comment", "key", "table", "value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_WIDE = 110


class Comment(str):
    """A line that is only a comment, as a value of a table; its key counts for nothing."""

    __slots__ = ()


def key(*parts: str) -> str:
    """A dotted key."""
    return ".".join(part if _BARE.match(part) else value(part) for part in parts)


def value(given: Any, indent: str = "") -> str:
    """One value; arrays that are long have a member a line. ValueError for what TOML cannot say."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int):
        if not -(2**63) <= given < 2**63:
            raise ValueError("a whole number of more than 64 bits")
        return str(given)
    if isinstance(given, float):
        return repr(given).replace("e+", "e") if not math.isnan(given) else "nan"
    if isinstance(given, str):
        return _text(given)
    if isinstance(given, list | tuple):
        parts = [value(one, indent + "  ") for one in given]
        line = "[" + ", ".join(parts) + "]"
        if len(indent) + len(line) <= _WIDE and "\n" not in line:
            return line
        return "[\n" + "".join(f"{indent}  {part},\n" for part in parts) + indent + "]"
    if isinstance(given, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(one, indent)}" for name, one in given.items()) + " }" if given else "{}"
    raise ValueError(f"{type(given).__name__} has no form in TOML")


def _text(given: str) -> str:
    if "'" not in given and ('"' in given or "\\" in given) and given.isprintable():
        return f"'{given}'"
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if "\n" in given and all(letter.isprintable() or letter in "\n\t" for letter in given) and "'''" not in given and not given.endswith("'"):
        return f"'''\n{given}'''"
    return '"' + "".join(named.get(letter) or (letter if letter.isprintable() else f"\\U{ord(letter):08x}") for letter in given) + '"'


def comment(text: str, indent: str = "") -> list[str]:
    """Lines that say this; what no comment can hold is escaped."""
    return [f"{indent}# {''.join(one if one.isprintable() else repr(one)[1:-1] for one in line)}".rstrip() for line in text.split("\n")]


def table(entries: Mapping[str, Any], indent: str = "") -> list[str]:
    """``key = value`` lines; equals signs stand below each other."""
    width = max([len(key(name)) for name, one in entries.items() if not isinstance(one, Comment)], default=0)
    lines = []
    for name, one in entries.items():
        if isinstance(one, Comment):
            lines += comment(one, indent)
        else:
            lines.append(f"{indent}{key(name):<{width}} = {value(one, indent)}")
    return lines
