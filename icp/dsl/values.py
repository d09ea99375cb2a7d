"""What expressions ask and what they give: jobs, sites, values, marks for the node (hides how draws are made)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.dsl.syntax import BadExpression

__all__ = [
    "MAX_TEXT",
    "NODE_NAMES",
    "JobContext",
    "Marked",
    "Node",
    "Scope",
    "SiteContext",
    "choose",
    "joined",
    "seed_of",
    "show",
]

NODE_NAMES = ("tmp", "scratch", "platform")
"""What of ``$system`` only the node knows: markers in the card."""

MAX_TEXT = 1_000_000
"""Longest text that a value may become, characters."""


@dataclass(slots=True)
class JobContext:
    """What a job knows when its task is rendered; a final task has job = -1 - (index of its group), and ``group``."""

    dataset: str
    dataset_seed: int
    job: int
    jobs: int
    row: Mapping[str, Any]
    group: str | None = None


@dataclass(slots=True)
class SiteContext:
    """What is known of the site that a card is made for: its attributes and its ``[site.NAME.system]`` table."""

    name: str
    attributes: Mapping[str, Any]
    system: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A value that only the node knows."""

    name: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with values in it that only the node knows."""

    parts: tuple[str | Node, ...]


def seed_of(dataset_seed: int, job: int, task: str) -> int:
    """The 63 bits of ``$args(seed)``."""
    digest = hashlib.sha256(b"%d\0%d\0%s" % (dataset_seed, job, task.encode())).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choose(dataset_seed: int, job: int, owner: str, field: str, position: int, n: int) -> int:
    """Which of ``n`` a ``$choice`` takes.

    ``owner`` is the task's name, or empty in ``[steering]``; ``field`` the key path in the task's long form
    (``outputs.0``, ``tray.0.module.1.command``) or the steering key; ``position`` counts that text's choices.
    """
    text = b"choice\0%d\0%d\0%s\0%s\0%d" % (dataset_seed, job, owner.encode(), field.encode(), position)
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % n


class Scope:
    """Everything that an expression may ask, for one job and one task."""

    __slots__ = ("_seed", "iteration", "job", "site", "task")

    def __init__(self, job: JobContext, task: str, site: SiteContext | None = None) -> None:
        self.job = job
        self.task = task
        self.site = site
        self.iteration = 0
        self._seed: int | None = None

    @property
    def seed(self) -> int:
        if self._seed is None:
            self._seed = seed_of(self.job.dataset_seed, self.job.job, self.task)
        return self._seed


def show(value: Any, expression: str = "a value") -> str:
    """A value as the text that is inserted: numbers as Python writes them, ``true`` and ``false``."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return repr(value)
    if kind is list or kind is tuple:
        raise BadExpression(expression, "a list has no text; take one with $choice or write it with $sprintf")
    raise BadExpression(expression, "only the node knows this; it can stand in a command, but not be computed with")


def joined(values: Iterable[Any]) -> str | Marked:
    """Texts and markers one after the other."""
    parts: list[str | Node] = []
    size = 0
    for value in values:
        for piece in value.parts if isinstance(value, Marked) else (value,):
            if isinstance(piece, Node):
                parts.append(piece)
                continue
            text = show(piece)
            size += len(text)
            if size > MAX_TEXT:
                raise BadExpression(text[:40], f"a text longer than {MAX_TEXT} characters")
            if text and parts and isinstance(parts[-1], str):
                parts[-1] += text
            elif text:
                parts.append(text)
    if all(isinstance(part, str) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return Marked(tuple(parts))
