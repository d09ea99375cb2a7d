"""What a class of tasks asks of an agent: resources and requirements, interned by content (hides the canonical bytes)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Comparison", "Disjunction", "Need", "join", "parse"]

Comparison = tuple[str, str, Any]
"""(attribute, operator, value); the operator is one of ``== != < <= > >=``."""

Disjunction = tuple[tuple[Comparison, ...], ...]
"""OR of ANDs: ``()`` is never true, ``((),)`` always."""


@dataclass(frozen=True)
class Need:
    """Resources (``memory`` and ``disk`` in bytes, ``time`` in seconds) and requirements of a class of tasks.

    The id is the first 16 hex digits of the sha256 of the canonical JSON: sorted keys, no blanks.
    """

    any: Disjunction = ((("CPU", "==", True),),)
    cpus: int = 1
    memory: int = 2_000_000_000
    disk: int = 1_000_000_000
    gpus: int = 0
    time: int = 3600
    software: tuple[str, ...] = ()
    """Marks of the environments that it runs in: an agent that has no way to them leaves it to others."""
    avoid: tuple[str, ...] = ()
    """Hosts that it is kept away from as long as there is another place."""

    @cached_property
    def bytes(self) -> bytes:
        value: dict[str, Any] = {
            "any": [[list(term) for term in clause] for clause in self.any],
            "cpus": self.cpus,
            "disk": self.disk,
            "gpus": self.gpus,
            "memory": self.memory,
            "time": self.time,
        }
        if self.software:
            value["software"] = list(self.software)
        if self.avoid:
            value["avoid"] = list(self.avoid)
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.bytes).hexdigest()[:16]


def parse(data: bytes | str) -> Need:
    """The need that these canonical bytes describe."""
    value = json.loads(data)
    clauses = tuple(tuple((term[0], term[1], term[2]) for term in clause) for clause in value["any"])
    software, avoid = (tuple(value.get(name, ())) for name in ("software", "avoid"))
    return Need(clauses, value["cpus"], value["memory"], value["disk"], value["gpus"], value["time"], software, avoid)


def join(needs: Iterable[Need]) -> Need:
    """The need of a chain that one slot runs one after the other: the largest of each resource, the sum of the times."""
    members = list(needs)
    clauses: Disjunction = ((),)
    for need in dict.fromkeys(members):
        clauses = tuple(tuple(dict.fromkeys(left + right)) for left in clauses for right in need.any)
    return Need(
        clauses,
        max(need.cpus for need in members),
        max(need.memory for need in members),
        max(need.disk for need in members),
        max(need.gpus for need in members),
        sum(need.time for need in members),
        tuple(sorted({one for need in members for one in need.software})),
        tuple(sorted({one for need in members for one in need.avoid})),
    )
