"""Where each key of a valid TOML text stands: key path -> (line, column) (hides TOML's grammar)."""

from __future__ import annotations

import bisect
import re
import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KeyPath", "Position", "locate"]

KeyPath = tuple[str | int, ...]
"""Keys, and the index in arrays: ``("task", "filter", "tray", 0, "software")``."""

Position = tuple[int, int]
"""Line and column, from 1, in characters."""

_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#]+(?: \d[^\s,\]}#]*)?")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\])*"'),
    re.compile(r"'[^']*'"),
)


def locate(text: str) -> dict[KeyPath, Position]:
    """The place of every table, key and array element; ``text`` must be valid TOML.

    A table that dotted keys or sub-tables bring about stands where it is first named.
    """
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[KeyPath, Position] = {}
        self.lengths: dict[KeyPath, int] = {}
        self.lines = [match.end() for match in re.finditer("\n", text)]

    def run(self) -> dict[KeyPath, Position]:
        prefix: KeyPath = ()
        while True:
            self._skip(_SPACE)
            if self.at >= len(self.text):
                return self.found
            if self.text[self.at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _note(self, path: KeyPath, offset: int) -> None:
        if path not in self.found:
            line = bisect.bisect_right(self.lines, offset)
            self.found[path] = (line + 1, offset - (self.lines[line - 1] if line else 0) + 1)

    def _header(self) -> KeyPath:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        keys = self._keys()
        self.at += 2 if array else 1
        path: KeyPath = ()
        for number, (key, offset) in enumerate(keys):
            path = (*path, key)
            self._note(path, offset)
            if array and number == len(keys) - 1:
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
                self._note(path, offset)
        return path

    def _keys(self) -> list[tuple[str, int]]:
        keys = []
        while True:
            self._skip(_BLANK)
            start = self.at
            if self.text[start] in "\"'":
                keys.append((str(self._string()), start))
            else:
                self._skip(_BARE)
                keys.append((self.text[start : self.at], start))
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _pair(self, prefix: KeyPath) -> None:
        path = prefix
        for key, offset in self._keys():
            path = (*path, key)
            self._note(path, offset)
        self.at += 1  # the '='
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        letter = self.text[self.at]
        if letter in "\"'":
            self._string(decode=False)
        elif letter == "[":
            self._array(path)
        elif letter == "{":
            self._table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(_SPACE)
            if self.text[self.at] == "]":
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1

    def _table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip(_SPACE)
            if self.text[self.at] == "}":
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._pair(path)

    def _string(self, decode: bool = True) -> str | None:
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return str(tomllib.loads("x = " + match.group())["x"]) if decode else None
        raise ValueError("no string here")
