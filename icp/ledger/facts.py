"""What a fact about an attempt says, held against its declaration (hides that a site may say anything)."""

from __future__ import annotations

import fnmatch
import math
from itertools import pairwise
from typing import Any

from icp.ledger.definitions import TaskDefRow
from icp.ledger.rows import AttemptRow
from icp.pilot.spool import BadName, check_name

__all__ = ["attempt_fields", "declared_outputs", "statistics", "text", "whole"]

LARGEST = 1e150
"""Statistics beyond this are left out: their squares could not be summed."""


def attempt_fields(fact: dict[str, Any], attempt: AttemptRow) -> int:
    """Copy what an ``ended`` fact measured into its attempt's row; the wall time in ms. All or nothing: ValueError, TypeError or OverflowError."""
    phases = fact.get("ph")
    wall = 0
    begun, between = attempt.begun, (attempt.staging, attempt.running, attempt.storing)
    if isinstance(phases, list) and len(phases) == 4:
        marks = [float(mark) for mark in phases]
        begun = marks[0] if math.isfinite(marks[0]) else None
        staging, running, storing = (whole(max(0, round((b - a) * 1000))) for a, b in pairwise(marks))
        between = staging, running, storing
        wall = whole(max(0, round((marks[3] - marks[0]) * 1000)))
    exit_ = None if fact.get("exit") is None else whole(fact["exit"])
    cpu = whole(round(float(fact.get("cpu") or 0) * 1000))
    rss = whole(int(fact.get("rss") or 0)) // 1024
    log = fact.get("log")
    if isinstance(log, list) and len(log) == 3:
        attempt.log, attempt.out, attempt.err = (whole(one) for one in log)
    attempt.begun, (attempt.staging, attempt.running, attempt.storing) = begun, between
    attempt.exit, attempt.cpu, attempt.rss = exit_, cpu, rss
    return wall


def whole(value: Any) -> int:
    """A whole number that a column holds; OverflowError or TypeError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{value} is too large")
    return value


def statistics(stats: Any) -> dict[str, float]:
    """Numbers by name; what is not a number, or too large to be summed, is left out."""
    if not isinstance(stats, dict):
        return {}
    return {
        text(name)[:100]: float(value)
        for name, value in stats.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
    }


def declared_outputs(definition: TaskDefRow, said: list[Any]) -> list[tuple[int, str, int, bytes]] | None:
    """Outputs of an ``ok``, each name held against its declaration; None if one of them is not declared so, or one that must be there is not."""
    outputs: list[tuple[int, str, int, bytes]] = []
    names: set[str] = set()
    for index, name, size, digest in said:
        try:
            check_name(name)
            row = definition.outputs[index]
            sha256 = bytes.fromhex(digest)
        except (BadName, IndexError, TypeError, ValueError):
            return None
        if len(sha256) != 32 or not isinstance(size, int) or not 0 <= size < 2**63 or name in names or index < 0:
            return None
        if "$" not in row.name and not (fnmatch.fnmatchcase(name, row.name) if row.glob else name == row.name):
            return None
        names.add(name)
        outputs.append((index, name, size, sha256))
    there = {index for index, *_ in outputs}
    return outputs if all(row.optional or row.idx in there for row in definition.outputs) else None


def text(value: Any) -> str:
    """Text that a column holds: half a surrogate pair, which JSON lets through, is shown as an escape."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
