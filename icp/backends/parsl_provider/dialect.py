"""What the providers of Parsl's differ in, as one base class with a subclass for each batch system (hides nothing: these are the differences)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from parsl.launchers import SimpleLauncher
from parsl.launchers.base import Launcher
from parsl.providers.cluster_provider import ClusterProvider

from icp.model.batch import Wanted

__all__ = ["MISSING", "WORD", "Dialect", "OnEachNode", "Refusal", "flag", "mib", "number", "whole_minutes", "word"]

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+=/-]*\Z")
ONE_WORD = "expected one word without blanks, quotes or characters of the shell"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a batch system says when it takes no job, and what that means."""

    pattern: str
    sentence: str
    hint: str
    again: bool = False
    """It may say yes later without anybody mending anything."""


# what any of them may meet
FULL = Refusal(r"[Qq]uota exceeded|No space left", "the disk of the site is full", "make room there, `df` and `quota` tell where", again=True)


def MISSING(program: str) -> Refusal:  # noqa: N802  reads as one more row of a table
    """The program is not there."""
    return Refusal(
        rf"No such file or directory: .?{program}|{program}: (?:command )?not found", f"there is no {program} on the login node",
        'add it to PATH in the start-up files there, or set scheduler = "none"',
    )  # fmt: skip


class OnEachNode(Launcher):
    """Starts the pilot once on each node by a text of our own."""

    def __init__(self, text: str) -> None:
        super().__init__(debug=False)
        self.text = text

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:  # noqa: ARG002  Parsl's signature
        return self.text


Check = Callable[[Any], "str | None"]
"""None where a value may be given, else what was expected."""


def word(value: Any) -> str | None:
    """One word of text."""
    return None if isinstance(value, str) and WORD.match(value) else ONE_WORD


def number(value: Any) -> str | None:
    """A whole number."""
    return None if isinstance(value, int) and not isinstance(value, bool) else "expected a whole number"


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "expected true or false"


def pattern(expression: str, expected: str) -> Check:
    """Text that matches as a whole."""
    compiled = re.compile(rf"(?:{expression})\Z")
    return lambda value: None if isinstance(value, str) and compiled.match(value) else expected


def mib(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // 2**20)


def whole_minutes(seconds: int) -> str:
    """``H:MM:00``, rounded up."""
    minutes = -(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}:00"


class Dialect:
    """How pilots are put to one provider of Parsl's."""

    provider: ClassVar[type[ClusterProvider]]
    program: ClassVar[str]
    """What submits."""
    mark: ClassVar[str]
    """How a line of ``scheduler_options`` begins; it is followed by an option."""
    line: ClassVar[re.Pattern[str]]
    """A whole line of ``scheduler_options``; group 1 is the option."""
    line_example: ClassVar[str]
    ours: ClassVar[frozenset[str]]
    """Options that such a line may not decide."""
    said: ClassVar[Mapping[str, str]]
    """Options of Parsl's that the configuration has words of its own for."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """Fields of Wanted that this batch system has nothing like -> what to do instead."""
    extra: ClassVar[Mapping[str, Check]] = {}
    """Options of ours, beside Parsl's."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Values that are not one word: options of Parsl's by their name, and ``pilot.constraint``."""
    constraint: ClassVar[Callable[[Any], str | None]] = staticmethod(word)
    refusals: ClassVar[Sequence[Refusal]]
    unclear: ClassVar[re.Pattern[str]]
    """The request may have arrived: only the listing can tell."""
    job: ClassVar[re.Pattern[str]] = re.compile(r"[0-9]+\Z")

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        """What the provider is made with."""
        raise NotImplementedError

    def tasks(self, wanted: Wanted) -> int:  # noqa: ARG002
        """``tasks_per_node`` of ``submit``."""
        return 1

    def pilot(self, wanted: Wanted) -> str:
        """The command that becomes the pilot."""
        return f"exec /bin/sh {wanted.folder}/pilot.sh"

    def text(self, wanted: Wanted, text: str) -> str:  # noqa: ARG002
        """The last touch to the script that Parsl wrote."""
        return text

    def command(self, wanted: Wanted, words: list[str]) -> list[str]:  # noqa: ARG002
        """The last touch to the command that submits it."""
        return words

    def cancel(self, words: list[str]) -> list[str]:
        """The last touch to the command that cancels."""
        return words

    def cancel_name(self, name: str) -> list[str]:
        """The command that cancels whatever job of ours has this name."""
        raise NotImplementedError

    # -- what they share

    def lines(self, wanted: Wanted, *first: str) -> str:
        """``scheduler_options``: lines of ours, then the person's."""
        return "\n".join([*first, *filter(None, map(str.strip, str(wanted.options.get("scheduler_options", "")).splitlines()))])

    def options(self, wanted: Wanted) -> dict[str, Any]:
        """The person's options that are Parsl's own."""
        return {name: value for name, value in wanted.options.items() if name not in self.extra and name != "scheduler_options"}

    def base(self, wanted: Wanted, each: str = "") -> dict[str, Any]:
        """Arguments of every provider. ``each``: what starts the pilot once on each node, where there are several."""
        arguments: dict[str, Any] = {**self.options(wanted), "walltime": whole_minutes(wanted.walltime), "nodes_per_block": wanted.nodes}
        arguments["launcher"] = SimpleLauncher() if wanted.nodes == 1 else OnEachNode(each)
        if wanted.nodes > 1:
            # bash would leave at the SIGTERM of a cancelled job, and take the agents with it
            arguments["worker_init"] = "trap : TERM"
        return arguments
