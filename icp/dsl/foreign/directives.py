"""What directives of batch scripts ask for, and how their options and values are read (hides getopt, sizes, times and indices)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Asked", "System", "assigned", "indices", "long_options", "mib", "one", "seconds", "short_options", "whole"]

MAX_INDICES = 1_000_000


@dataclass(slots=True)
class Asked:
    """What the directives of one script ask for."""

    name: str = ""
    indices: list[int] = field(default_factory=list)
    """Of the array; empty where it is none."""
    cpus: int = 1
    memory: int = 0
    """MiB of the whole task; 0: nothing is said."""
    memory_per_cpu: int = 0
    disk: int = 0
    gpus: int = 0
    time: int = 0
    output: str = ""
    error: str = ""
    joined: bool = False
    env: list[tuple[str, str]] = field(default_factory=list)
    shell: tuple[str, ...] = ()
    priority: int = 0
    resources: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def settle(self) -> None:
        """The resources as a steering file says them."""
        memory = max(self.memory, self.memory_per_cpu * self.cpus)
        self.resources = {"cpus": str(self.cpus)}
        if memory:
            self.resources["memory"] = f"{memory} MiB"
        if self.disk:
            self.resources["disk"] = f"{self.disk} MiB"
        if self.gpus:
            self.resources["gpus"] = str(self.gpus)
        if self.time:
            self.resources["time"] = f"{self.time} s"


Understand = Callable[[Asked, str, str], str | None]


@dataclass(frozen=True, slots=True)
class System:
    """One batch system: its mark, and what its options mean. ``understand`` gives why an option is passed over; ValueError: a sentence."""

    mark: str
    suffixes: tuple[str, ...]
    options: Callable[[Sequence[str]], Iterator[tuple[str, str]]]
    understand: Understand
    file_name: Callable[[str, str | None, str], str]
    variables: Callable[[Asked, str | None, str], list[tuple[str, str]]]
    exports: tuple[str, ...]
    """Lines of sh for every task."""
    alone: str = ""
    """... that is no task of an array."""
    stops: bool = True
    """Directives end at the first command."""
    one_file: bool = False
    """The output's file is that of errors too, unless another is said."""


def indices(text: str) -> tuple[list[int], bool]:
    """(indices, whether a limit stood behind them) of ``1-100:2,200%10``. ValueError."""
    listed, percent, _ = text.partition("%")
    found: list[int] = []
    for part in listed.split(","):
        match = re.match(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?\Z", part.strip())
        if match is None:
            raise ValueError(f"{text[:60]!r} is no list of indices such as 1-100 or 0,3,5-9:2")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or not step or (last - first) // step > MAX_INDICES:
            raise ValueError(f"{part[:60]!r} has no index, or more than {MAX_INDICES:,}")
        found += range(first, last + 1, step)
    return sorted(set(found)), bool(percent)


def mib(text: str, bare: float, small: int = 1024) -> int:
    """MiB of a size; ``bare``: MiB of a number without a unit; ``small``: what k is, where K is 1024. ValueError."""
    match = re.match(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bBnNc])?\Z", text.strip())
    if match is None:
        raise ValueError(f"{text[:60]!r} is no size")
    letter = match[2]
    base = 1024 if letter.isupper() else small
    power = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}[letter.lower()]
    value = float(match[1]) * (bare if not letter else base**power / 2**20)
    return max(1, -int(-value // 1)) if value > 0 else 0


def seconds(text: str, bare: int) -> int:
    """Of ``[[h:]m:]s``, ``d-h[:m[:s]]`` or a number of units of ``bare`` seconds. ValueError."""
    match = re.match(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?:\.\d+)?\Z", text.strip())
    if match is None:
        raise ValueError(f"{text[:60]!r} is no time such as 1:00:00")
    days, *rest = match.groups()
    numbers = [int(one) for one in rest if one is not None]
    if days is not None:
        hours, minutes, secs = (*numbers, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + secs
    if len(numbers) == 1:
        return numbers[0] * bare
    value = 0
    for one in numbers:
        value = value * 60 + one
    return value


def one(text: str, what: str) -> None:
    """ValueError for more than one: of nodes, or of tasks."""
    if not re.match(r"1(?:-1)?\Z", text.strip()):
        raise ValueError(f"{text[:30]} {what}: a task of icp is one process on one node; parallel jobs over several have no counterpart")


def whole(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise ValueError(f"{text[:60]!r} is no whole number")
    return int(text)


def assigned(text: str, asked: Asked) -> str | None:
    """``A=1,B,C=2``: variables without a value have none here."""
    lost = []
    for part in re.split(r",(?=[A-Za-z_]\w*(?:=|,|\Z))", text):
        name, equals, value = part.partition("=")
        if not re.match(r"[A-Za-z_]\w*\Z", name):
            raise ValueError(f"{part[:60]!r} is no NAME=VALUE")
        if equals:
            asked.env.append((name, value.strip("'\"")))
        else:
            lost.append(name)
    return f"the value of {', '.join(lost)} here is no part of the file: write NAME=VALUE" if lost else None


def long_options(words: Sequence[str], flags: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """getopt's options: ``--name=value``, ``--name value``, ``-n value``, ``-nvalue``."""
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            if not equals and option not in flags and left and not left[0].startswith("-"):
                value = left.pop(0)
            yield option, value
        elif word.startswith("-") and len(word) > 1:
            option, value = word[:2], word[2:].removeprefix("=")
            if not value and option not in flags and left and not (left[0].startswith("-") and not left[0][1:2].isdigit()):
                value = left.pop(0)
            yield option, value
        else:
            yield word, ""


def short_options(flags: tuple[str, ...], many: bool) -> Callable[[Sequence[str]], Iterator[tuple[str, str]]]:
    """``-name value``; ``many``: options are whole words (Grid Engine), not one letter."""

    def options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
        left = list(words)
        while left:
            word = left.pop(0)
            option, value = (word, "") if many or len(word) < 3 else (word[:2], word[2:])
            if option == "-pe" and len(left) > 1:
                value = f"{left.pop(0)} {left.pop(0)}"
            elif not value and option not in flags and left and not re.match(r"-[A-Za-z]", left[0]):
                value = left.pop(0)
            yield option, value

    return options
