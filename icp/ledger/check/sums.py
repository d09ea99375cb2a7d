"""Sums that are kept: statistics of accepted attempts, and what attempts cost and made (hides the summing)."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter, defaultdict

from icp.ledger.check.chunks import Found, chunks, limited

__all__ = ["statistics", "work"]


def statistics(db: sqlite3.Connection) -> list[str]:
    """Summaries against what accepted attempts said; those that wait for their recomputation are left out."""
    real: dict[tuple[int, int, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0, math.inf, -math.inf])
    for chunk in chunks(db, "attempt"):
        for *key, n, total, squares, low, high in db.execute(
            "SELECT t.dataset, t.task_def, j.key, count(*), sum(j.value), sum(1.0 * j.value * j.value), min(j.value), max(j.value) "
            "FROM attempt a JOIN task t ON t.id = a.task AND t.accepted = a.id, json_each(a.stats) j "
            "WHERE a.id BETWEEN ? AND ? AND a.stats IS NOT NULL GROUP BY 1, 2, 3",
            chunk,
        ).fetchall():
            one = real[key[0], key[1], key[2]]
            one[0] += n
            one[1] += total
            one[2] += squares
            one[3], one[4] = min(one[3], low), max(one[4], high)
    kept: dict[tuple[int, int, str], list[float]] = {}
    stale: set[tuple[int, int]] = set()
    for dataset, task_def, name, n, total, squares, low, high, old in db.execute(
        "SELECT s.dataset, s.task_def, m.text, s.n, s.sum, s.squares, s.min, s.max, s.stale FROM summary s LEFT JOIN name m ON m.id = s.stat"
    ).fetchall():
        kept[dataset, task_def, name] = [n, total, squares, low, high]
        if old:
            stale.add((dataset, task_def))
    return limited(_summaries(kept, real, stale))


def _summaries(kept: dict[tuple[int, int, str], list[float]], real: dict[tuple[int, int, str], list[float]], stale: set[tuple[int, int]]) -> Found:
    for key in sorted({*kept, *real}):
        if key[:2] in stale:
            continue
        where = f"statistic {key[2]!r} of definition {key[1]} (dataset {key[0]})"
        if key not in kept or key not in real:
            yield f"{where} is kept: {key in kept}, and was reported by accepted attempts: {key in real}"
            continue
        mine, theirs = kept[key], real[key]
        # SQLite reads decimal numbers to the last bit but one: min and max are compared so
        scale = max(abs(theirs[3]), abs(theirs[4])) * theirs[0]
        same = mine[0] == theirs[0] and all(math.isclose(a, b, rel_tol=1e-14) for a, b in zip(mine[3:], theirs[3:], strict=True))
        same = same and math.isclose(mine[1], theirs[1], rel_tol=1e-9, abs_tol=1e-9 * scale) and math.isclose(mine[2], theirs[2], rel_tol=1e-9)
        if not same:
            yield f"{where} says n, sum, squares, min, max {mine}; accepted attempts say {theirs}"


def work(db: sqlite3.Connection) -> list[str]:
    """What attempts made, as it is kept and as their rows say."""
    real: Counter[tuple[int, ...]] = Counter()
    for chunk in chunks(db, "attempt"):
        for dataset, task_def, site, *values in db.execute(
            "SELECT t.dataset, t.task_def, a.site, coalesce(sum(t.accepted IS a.id), 0), coalesce(sum(t.accepted IS NOT a.id), 0), "
            "coalesce(sum(a.cpu) FILTER (WHERE t.accepted = a.id), 0), "
            "coalesce(sum((SELECT sum(f.bytes) FROM file f WHERE f.attempt = a.id)) FILTER (WHERE t.accepted = a.id), 0) "
            "FROM attempt a JOIN task t ON t.id = a.task WHERE a.id BETWEEN ? AND ? AND a.live = 0 AND (a.begun IS NOT NULL OR t.accepted = a.id) "
            "GROUP BY 1, 2, 3",
            chunk,
        ).fetchall():
            for at, value in enumerate(values):
                real[dataset, task_def, site, at] += value
    kept: Counter[tuple[int, ...]] = Counter()
    for dataset, task_def, site, *values in db.execute("SELECT dataset, task_def, site, ok, others, cpu, bytes FROM work").fetchall():
        for at, value in enumerate(values):
            kept[dataset, task_def, site, at] = value
    words = ("accepted attempts", "other attempts", "ms of cpu", "bytes of outputs")
    return limited(
        f"definition {key[1]} (dataset {key[0]}) has {kept[key]} {words[key[3]]} at site {key[2]}; its rows say {real[key]}"
        for key in sorted({*kept, *real})
        if kept[key] != real[key]
    )
