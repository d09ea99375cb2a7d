"""The text of a submit description: statements, macros, and what `queue` counts (hides HTCondor's macro language; condor_submit(1))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from icp.dsl.disk import Disk
from icp.dsl.foreign.words import DATASET, JOB

__all__ = ["Macros", "Queue", "Set", "Unclear", "items", "statements"]

MAX_JOBS = 1_000_000


class Unclear(ValueError):
    """What cannot be understood, as a sentence."""


@dataclass(frozen=True, slots=True)
class Set:
    """``key = value``."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A `queue` statement: what stands behind the word, and the lines of an inline list."""

    rest: str
    line: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Strange:
    """A line that is neither."""

    text: str
    line: int


_SET = re.compile(r"\s*(\+?[A-Za-z_][\w.]*)\s*[=:]\s*(.*)\Z", re.DOTALL)
_QUEUE = re.compile(r"\s*queue\b(.*)\Z", re.IGNORECASE | re.DOTALL)


def statements(text: str) -> Iterator[Set | Queue | Strange]:
    """In their order; a line that ends with a backslash goes on."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number = at + 1
        line = lines[at].rstrip("\r")
        at += 1
        if line.lstrip().startswith("#") or not line.strip():
            continue
        while line.endswith("\\") and at < len(lines):
            more = lines[at].rstrip("\r")
            at += 1
            # a comment inside a statement that goes on is passed over
            line = line if more.lstrip().startswith("#") else line[:-1] + more.lstrip()
        line = line.removesuffix("\\")
        match = _SET.match(line)
        queue = _QUEUE.match(line)
        if match is not None and not (queue is not None and match.group(1).lower() != "queue"):
            yield Set(match.group(1), match.group(2).strip(), number)
        elif queue is not None:
            inner: list[str] = []
            rest = queue.group(1).strip()
            if rest.endswith("(") or ("(" in rest and ")" not in rest and re.search(r"\b(?:in|from)\b", rest, re.IGNORECASE)):
                while at < len(lines):
                    more = lines[at].strip()
                    at += 1
                    if more.startswith(")"):
                        break
                    if more.endswith(")") and " in " in f" {rest.lower()} ":
                        inner.append(more[:-1])
                        break
                    if more and not more.startswith("#"):
                        inner.append(more)
            yield Queue(rest, number, tuple(inner))
        else:
            yield Strange(line.strip(), number)


_MACRO = re.compile(r"\$(\$|[A-Za-z_]*)\(")
_FILE_PARTS = re.compile(r"F([pqdnxabwuf]*)\Z")
_CANNOT = {
    "ENV": "the value of an environment variable here is no part of the file: write it out",
    "RANDOM_CHOICE": "it draws anew in every run of condor_submit; in a steering file $choice(...) draws once for each job",
    "RANDOM_INTEGER": "it draws anew in every run of condor_submit; in a steering file $choice(...) draws once for each job",
    "SUBMIT_TIME": "the time of submission has no counterpart",
    "YEAR": "the time of submission has no counterpart", "MONTH": "the time of submission has no counterpart",
    "DAY": "the time of submission has no counterpart", "NODE": "it belongs to the parallel universe, and only vanilla is understood",
}  # fmt: skip
_OWN = ("cluster", "clusterid", "process", "procid", "step", "row", "itemindex", "item", "dollar", "submit_file", "node")


class Macros:
    """The values that hold at a `queue` statement; lookups do not mind the case of letters."""

    def __init__(self, submit_file: str) -> None:
        self._values: dict[str, str] = {"submit_file": submit_file}
        self.used: set[str] = set()
        """Names that were asked for, in small letters."""
        self.undefined: set[str] = set()
        self.clusters = False
        """Whether the number of the cluster was asked for."""
        self.depth = 0

    def set(self, key: str, value: str) -> None:
        """As in the file: ``A = $(A) more`` means the A from before."""
        low = key.lower()
        own = re.compile(rf"\$\({re.escape(key)}\)", re.IGNORECASE)
        before = self._values.get(low, "")
        self._values[low] = own.sub(lambda match: before, value)

    def whole(self, key: str) -> str | None:
        return self._values.get(key.lower())

    def expand(self, text: str, job: Mapping[str, str], depth: int = 0) -> str:
        """The text with every macro replaced; ``job``: Process and the variables of `queue`, by their names in small letters. Unclear."""
        if depth > 20:
            raise Unclear(f"{text[:60]!r}: macros are nested deeper than 20")
        out: list[str] = []
        at = 0
        while True:
            match = _MACRO.search(text, at)
            if match is None:
                return "".join([*out, text[at:]])
            out.append(text[at : match.start()])
            end = _closing(text, match.end())
            inner, whole = text[match.end() : end], text[match.start() : end + 1]
            out.append(self._value(match.group(1), inner, whole, job, depth))
            at = end + 1

    def _value(self, function: str, inner: str, whole: str, job: Mapping[str, str], depth: int) -> str:
        if function == "$":
            raise Unclear(f"{whole}: it is filled in from the machine that HTCondor finds, and there is none; requirements can say what a site must have")
        if function.upper() in _CANNOT:
            raise Unclear(f"{whole}: {_CANNOT[function.upper()]}")
        if not function:
            name, colon, default = inner.partition(":")
            found = self._named(name.strip(), job, depth)
            if found is None and not colon:
                self.undefined.add(name.strip())
            return self.expand(default, job, depth + 1) if found is None else found
        arguments = [part.strip() for part in inner.split(",")]
        value = self._argument(arguments[0], job, depth)
        if (parts := _FILE_PARTS.match(function)) is not None:
            return _file_parts(value, parts.group(1))
        if function.upper() == "BASENAME":
            return value.rpartition("/")[2]
        if function.upper() == "DIRNAME":
            return value.rpartition("/")[0]
        if function.upper() in ("INT", "REAL"):
            return _number(value, arguments[1] if len(arguments) > 1 else "", function.upper() == "INT", whole)
        if function.upper() == "CHOICE":
            choices = [self.expand(one, job, depth + 1) for one in arguments[1:]]
            if not value.isdigit() or int(value) >= len(choices):
                raise Unclear(f"{whole}: {value!r} is no index of its {len(choices)} values")
            return choices[int(value)]
        raise Unclear(f"{whole}: the function ${function}() is not understood")

    def _argument(self, text: str, job: Mapping[str, str], depth: int) -> str:
        """A function's first argument: a macro's name, or a text with macros."""
        found = self._named(text, job, depth) if re.match(r"[\w.]+\Z", text) else None
        return self.expand(text, job, depth + 1) if found is None else found

    def _named(self, name: str, job: Mapping[str, str], depth: int) -> str | None:
        """The value of a macro; only what the file says is expanded in its turn."""
        low = name.lower().removeprefix("my.")
        self.used.add(low)
        if low in ("cluster", "clusterid"):
            self.clusters = True
            return DATASET
        low = "process" if low == "procid" else low
        if low == "dollar":
            return "$"
        if low in job:
            return job[low]
        if low.upper() in _CANNOT:
            raise Unclear(f"$({name}): {_CANNOT[low.upper()]}")
        value = self._values.get(low)
        return None if value is None else self.expand(value, job, depth + 1)


def _closing(text: str, at: int) -> int:
    level = 1
    for position in range(at, len(text)):
        level += (text[position] == "(") - (text[position] == ")")
        if not level:
            return position
    raise Unclear(f"{text[:60]!r}: the bracket of a macro is not closed")


def _file_parts(path: str, what: str) -> str:
    """$Fpnx(file) and its relatives: p the folder, d its last part, n the name, x its end; q puts quotes around."""
    path = path.strip('"')
    folder, slash, base = path.rpartition("/")
    stem, dot, end = base.rpartition(".")
    stem, end = (stem, dot + end) if dot and stem else (base, "")
    chosen = {"p": folder + slash, "d": folder.rpartition("/")[2] + slash if folder else "", "n": stem, "x": end}
    if "b" in what:
        chosen["x"], chosen["d"] = end[1:], chosen["d"].rstrip("/")
    picked = "".join(chosen[one] for one in "pdnx" if one in what and not (one == "d" and "p" in what))
    picked = picked or path
    return f'"{picked}"' if "q" in what or "w" in what else picked


_SUM = re.compile(r"\s*(-?\d+(?:\.\d+)?)(?:\s*([-+*/%])\s*(-?\d+(?:\.\d+)?))*\s*\Z")


def _number(text: str, form: str, whole_number: bool, whole: str) -> str:
    if not _SUM.match(text):
        raise Unclear(f"{whole}: {text!r} is no number, nor a sum or product of two")
    parts = re.findall(r"(?<![\d.])-?\d+(?:\.\d+)?|[-+*/%]", text.replace(" ", ""))
    value = float(parts[0])
    rest = parts[1:]
    if len(rest) == 1 and rest[0].startswith("-"):
        rest = ["+", rest[0]]
    if len(rest) > 2:
        raise Unclear(f"{whole}: {text!r} has more than one operator")
    if rest:
        other = float(rest[1])
        if rest[0] in "/%" and not other:
            raise Unclear(f"{whole}: a division by 0")
        value = {"+": value + other, "-": value - other, "*": value * other, "/": value / (other or 1), "%": value % (other or 1)}[rest[0]]
    if form and not re.match(r"%[-+0 #]*\d{0,3}(?:\.\d{1,2})?[dieEfgGxX]\Z", form):
        raise Unclear(f"{whole}: {form!r} is no format of a number")
    shown: float = int(value) if whole_number else value
    return (form or ("%d" if whole_number else "%.15g")) % shown


# ---- queue

_SLICE = re.compile(r"\[(-?\d*):(-?\d*)(?::(-?\d*))?\]")
_HEAD = re.compile(r"(?P<vars>[A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)?\s*\b(?P<word>in|from|matching)\b\s*(?P<rest>.*)\Z", re.IGNORECASE | re.DOTALL)


def items(queue: Queue, macros: Macros, disk: Disk | None) -> tuple[int, list[dict[str, str]] | None]:
    """(how often, a value of the variables for each item; None where there are no items). Unclear."""
    text = macros.expand(queue.rest, {})
    match = re.match(r"(\d+)?\s*(.*)\Z", text, re.DOTALL)
    assert match is not None
    count, rest = int(match.group(1) or 1), match.group(2).strip()
    if not rest:
        return _bounded(count), None
    head = _HEAD.match(rest)
    if head is None:
        raise Unclear(f"queue {rest[:60]}: expected a number, or VARIABLE in (...), from FILE, or matching PATTERN")
    names = [one.strip().lower() for one in (head.group("vars") or "Item").split(",")]
    rest = head.group("rest").strip()
    chosen = slice(None)
    if cut := _SLICE.match(rest):
        chosen = slice(*(int(part) if part else None for part in cut.groups()))
        rest = rest[cut.end() :].strip()
    word = head.group("word").lower()
    rows = _matching(rest, disk) if word == "matching" else _listed(queue, rest, word, macros, disk)
    rows = rows[chosen]
    _bounded(count * len(rows))
    return count, [dict(zip(names, _split(row, len(names)), strict=True)) for row in rows]


def _bounded(count: int) -> int:
    if not 1 <= count <= 1_000_000_000:
        raise Unclear(f"these are {count} jobs; expected at least one")
    return count


def _listed(queue: Queue, rest: str, word: str, macros: Macros, disk: Disk | None) -> list[str]:
    if rest.startswith("("):
        inner = rest[1:]
        lines = [macros.expand(line, {}) for line in queue.lines]
        if not queue.lines and inner.rstrip().endswith(")"):
            inner = inner.rstrip()[:-1]
        lines = [line for line in [inner, *lines] if line.strip()]
    elif word == "in":
        lines = [rest]
    else:
        if rest.endswith("|"):
            raise Unclear(f"queue from {rest}: no program is run to find out what to queue; write its output into a file")
        if disk is None:
            raise Unclear(f"{rest} cannot be read here")
        try:
            lines = disk.read(rest).decode("utf-8-sig").splitlines()
        except OSError as error:
            raise Unclear(f"{rest} cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise Unclear(f"{rest} is not UTF-8") from None
        lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if word == "in":
        lines = [one for line in lines for one in re.split(r"\s*,\s*|\s+", line.strip()) if one]
    if not lines:
        raise Unclear("the list of items is empty")
    return [line.strip() for line in lines]


def _matching(rest: str, disk: Disk | None) -> list[str]:
    kind = re.match(r"(files|dirs|any)\b\s*(.*)\Z", rest, re.IGNORECASE | re.DOTALL)
    wanted, patterns = (kind.group(1).lower(), kind.group(2)) if kind else ("any", rest)
    patterns = patterns.strip()
    if patterns.startswith("(") and patterns.endswith(")"):
        patterns = patterns[1:-1]
    if disk is None:
        raise Unclear(f"{patterns} cannot be looked for here")
    found: list[str] = []
    for pattern in re.split(r"\s*,\s*|\s+", patterns.strip()):
        try:
            found += disk.matching(pattern, wanted)
        except (ValueError, NotImplementedError, OSError) as error:
            raise Unclear(f"{pattern!r}: {error}") from None
    if not found:
        raise Unclear(f"nothing matches {patterns!r}")
    return list(dict.fromkeys(found))


def _split(row: str, count: int) -> list[str]:
    """The last variable takes what is left of the line."""
    separator = "\x1f" if "\x1f" in row else r"\s*,\s*|\s+"
    parts = re.split(separator, row.strip(), maxsplit=count - 1) if count > 1 else [row]
    return [*parts, *[""] * (count - len(parts))]


def process_of(number: int | None) -> str:
    """$(Process): of one job, or of each."""
    return JOB if number is None else str(number)



