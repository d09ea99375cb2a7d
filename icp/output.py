"""How values are printed: as a table for people, as JSON, or quietly, one name a line (hides terminals, colours, widths).

Nothing that came from a site reaches a terminal before its control characters are escaped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "Progress", "ago", "bar", "clean", "clean_lines", "clock", "coloured", "cut", "duration", "folded", "middled", "number", "paint", "plain_size",
    "print_json", "say", "show", "strip", "table", "warn", "width",
]  # fmt: skip

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_DEEP = {"red": "38;5;160", "green": "38;5;28", "yellow": "38;5;130", "blue": "38;5;32", "cyan": "38;5;30"}
"""The same on a terminal of 256 colours, which the first sixteen may make too bright on white or too dark on black: these are read on both."""
# C0 and C1 controls, DEL, line and paragraph separators, and the marks that turn the direction of text
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PAINT = re.compile("\x1b\\[[0-9;]*m")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    named = {9: "\\t", 10: "\\n", 13: "\\r"}
    return named.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class Progress:
    """How far something that a person waits for is: on standard error if that is a terminal, from the second second on, on one line that goes in the end."""

    def __init__(self) -> None:
        self._shown = False
        self._next = time.monotonic() + 1.0

    def __call__(self, what: str, here: int, whole: int | None) -> None:
        """``here`` bytes of ``whole`` (None: nobody knows how many) are there."""
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next, self._shown = now + 0.2, True
        much = f"{plain_size(here)} of {plain_size(whole)}" if whole else plain_size(here)
        room = max(20, shutil.get_terminal_size().columns - len(much) - 3)
        name = clean(what)
        sys.stderr.write(f"\r\x1b[K{name if len(name) <= room else '…' + name[1 - room:]}: {much}")
        sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def clean(text: object) -> str:
    """The text on one line, its control characters escaped."""
    return _CONTROL.sub(_escape, str(text))


def clean_lines(text: str) -> str:
    """The same for text of several lines: line ends and tabs stay."""
    return "\n".join(_CONTROL.sub(lambda match: "\t" if match[0] == "\t" else _escape(match), line) for line in text.replace("\r\n", "\n").split("\n"))


def coloured() -> bool:
    """Whether standard output is a terminal that is to have colours (NO_COLOR and TERM=dumb say no)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in a colour or in ``bold``, where there are colours; ``colour`` may be ""."""
    if not (colour and text and coloured()):
        return text
    deep = "256color" in os.environ.get("TERM", "") or os.environ.get("COLORTERM") in ("truecolor", "24bit")
    return f"\x1b[{_DEEP.get(colour, _CODES[colour]) if deep else _CODES[colour]}m{text}\x1b[0m"


def strip(text: str) -> str:
    """The text without its colours."""
    return _PAINT.sub("", text)


def width() -> int:
    """Columns of the terminal; 80 where that is unknown, without bound in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def say(text: str = "") -> None:
    """A line on standard output; the program ends where nobody reads it any more (`| head`)."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def warn(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(text + "\n")


def print_json(value: Any) -> None:
    """Dataclasses, bytes and paths as JSON, two blanks deep."""
    say(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value)


def show(
    rows: Sequence[Any],
    columns: Mapping[str, Callable[[Any], str]],
    *,
    as_json: bool = False,
    quiet: Callable[[Any], str] | None = None,
    empty: str = "",
) -> None:
    """Print records: all of each as JSON, one name a line if ``quiet``, otherwise a table of ``columns`` (``>``: to the right)."""
    if as_json:
        print_json(list(rows))
    elif quiet is not None:
        for row in rows:
            say(clean(quiet(row)))
    elif not rows:
        say(empty)
    else:
        for line in table(list(columns), [[cell(row) for cell in columns.values()] for row in rows]):
            say(line)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, tight: bool = False, middle: str = "", columns: int | None = None) -> list[str]:
    """Lines of a table. Cells are cleaned already and may be painted; the widest text column gives way on a narrow terminal.

    ``tight``: one blank between columns of numbers instead of two. ``middle``: the column whose cells are cut in their middle: ends of names differ.
    """
    body = [list(row) for row in rows]
    right = [head.startswith(">") for head in heads]
    names = [head.lstrip(">") for head in heads]
    widths = [max([len(name), *(len(strip(row[i])) for row in body)]) for i, name in enumerate(names)]
    room = columns or width()
    texts = [i for i in range(len(names)) if not right[i]]
    gaps = ["", *(" " if tight and right[i] and right[i - 1] else "  " for i in range(1, len(names)))]
    over = sum(widths) + sum(map(len, gaps)) - room
    while over > 0 and texts:
        widest = max(texts, key=lambda i: widths[i])
        if widths[widest] <= 8:
            break
        widths[widest] -= 1
        over -= 1

    def cell(text: str, i: int) -> str:
        bare = strip(text)
        if len(bare) > widths[i]:
            return middled(bare, widths[i]) if names[i] == middle else bare[: widths[i] - 1] + "…"
        pad = " " * (widths[i] - len(bare))
        return pad + text if right[i] else text + pad

    def line(cells: Sequence[str]) -> str:
        return "".join(gaps[i] + cell(text, i) for i, text in enumerate(cells)).rstrip()

    return [paint(line(names), "bold"), *(line(row) for row in body)]


def folded(text: str, indent: str = "  ", columns: int | None = None) -> list[str]:
    """Lines of a sentence, broken between words where the terminal is narrower; those after the first are indented. It may be painted."""
    room = columns or width()
    if len(strip(text)) <= room:
        return [text]
    lines, line, colour = [], "", ""
    for word in re.findall(" *[^ ]+", text):
        if line and len(strip(line + word)) > room:
            lines.append(line + ("\x1b[0m" if colour else ""))
            line = indent + colour + word.lstrip(" ")
        else:
            line += word
        for code in _PAINT.findall(word):
            colour = "" if code == "\x1b[0m" else code
    return [*lines, line]


def cut(text: str, columns: int) -> str:
    """The text in so many columns, painted as it was."""
    if len(strip(text)) <= columns:
        return text
    said, room = "", columns - 1
    for part in re.split(f"({_PAINT.pattern})", text):
        if _PAINT.fullmatch(part):
            said += part
        elif room >= 0:
            said += part if len(part) <= room else part[:room] + "…"
            room = room - len(part) if len(part) <= room else -1
    return said


def middled(text: str, cells: int) -> str:
    """The text, cut in its middle where it is longer: ends of names differ."""
    end = (cells - 1) // 2
    return text if len(text) <= cells else text[: cells - 1 - end] + "…" + text[len(text) - end :]


def bar(parts: Sequence[tuple[int, str, str]], total: int, cells: int) -> str:
    """``cells`` characters of a bar; parts are (number, character, colour). What is there is at least one cell wide if there is room."""
    if total <= 0:
        return " " * cells
    said = ""
    used = 0
    reached = 0
    for n, character, colour in parts:
        reached += n
        end = min(cells, reached * cells // total)
        if n and end == used and used < cells:
            end = used + 1
        if end > used:
            said += paint(character * (end - used), colour)
            used = end
    return said + paint("·" * (cells - used), "dim")


def number(n: float) -> str:
    """``950``, ``12,345``, ``3.2M``: at most seven characters."""
    if abs(n) < 1_000_000:
        return f"{n:,.0f}"
    for unit in ("M", "G"):
        n /= 1000 if unit == "G" else 1_000_000
        if abs(n) < 1000:
            break
    return f"{n:.1f}{unit}" if abs(n) < 1000 else f"{n:,.0f}{unit}"


def plain_size(n: float) -> str:
    """Bytes in powers of ten: ``18.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``5 h``, ``2 d``: the largest unit of which there are two."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"


def ago(moment: float | None, now: float) -> str:
    """How long ago, or ``never``."""
    return "never" if moment is None else f"{duration(now - moment)} ago"


def clock(moment: float | None) -> str:
    """Local date and time, or ``-``."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
