"""Statistics of accepted attempts grouped by task, site, host or job, and how their values spread (hides where each is recorded)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from icp.ledger.definitions import Graph, TaskDefRow
from icp.ledger.transferred import HOW
from icp.ledger.views_results import StatView, stat_view, statistics

__all__ = ["GROUPS", "MEASURED", "BinView", "histogram", "stats"]

GROUPS = {
    "task": "(SELECT name FROM task_def d WHERE d.id = t.task_def)",
    "dataset": "NULL",
    "site": "(SELECT name FROM site s WHERE s.id = a.site)",
    "host": "coalesce((SELECT h.text FROM agent g JOIN name h ON h.id = g.host WHERE g.id = a.agent), '?')",
    "job": "t.job",
}
_COLUMNS = {"cpu": "a.cpu / 1000.0", "wall": "(a.staging + a.running + a.storing) / 1000.0", "memory": "a.rss * 1024.0"}
MEASURED = (*_COLUMNS, *HOW, "output")
"""What is measured of every attempt: seconds, and bytes (of memory, of files by URL, of its outputs)."""
_ATTEMPTS = "FROM task t INDEXED BY task_job JOIN attempt a ON a.id = t.accepted"


@dataclass(frozen=True, slots=True)
class BinView:
    """Values of one statistic from ``low`` to ``high`` (the last one's included)."""

    low: float
    high: float
    n: int


def _values(graph: Graph, by: str, task: TaskDefRow | None, reported: bool = True) -> tuple[str, list[Any]]:
    """A query of (group, 0 reported or place in MEASURED + 1, name, value), one row for each value."""
    group, where, values = GROUPS[by], "WHERE t.dataset = ?", [graph.dataset]
    if task is not None:
        where += " AND t.task_def = ?"
        values.append(task.id)
    parts = [f"SELECT {group}, 0, j.key, j.value {_ATTEMPTS}, json_each(a.stats) j {where} AND a.stats IS NOT NULL"] if reported else []
    for at, name in enumerate(MEASURED, 1):
        if name in _COLUMNS:
            parts.append(f"SELECT {group}, {at}, '{name}', {_COLUMNS[name]} {_ATTEMPTS} {where} AND {_COLUMNS[name]} IS NOT NULL")
        elif name == "output":
            parts.append(f"SELECT {group}, {at}, '{name}', sum(f.bytes) {_ATTEMPTS} JOIN file f ON f.attempt = a.id {where} GROUP BY a.id")
        else:
            parts.append(
                f"SELECT {group}, {at}, '{name}', sum(x.bytes) {_ATTEMPTS} JOIN transferred x ON x.attempt = a.id {where} "
                f"AND x.how = {HOW.index(name)} GROUP BY a.id"
            )
    return " UNION ALL ".join(parts), values * len(parts)


def stats(db: sqlite3.Connection, graph: Graph, *, by: str = "task", task: TaskDefRow | None = None) -> list[StatView]:
    """What modules reported, and what was measured, by group and name. What was reported is kept by task; the rest is read from the attempts."""
    kept = by in ("task", "dataset")
    query, values = _values(graph, by, task, reported=not kept)
    rows = db.execute(
        f"WITH v (grp, place, name, value) AS ({query}) SELECT grp, place, name, count(*), sum(value), sum(1.0 * value * value), min(value), max(value) "
        "FROM v GROUP BY grp, place, name ORDER BY grp, place, name",
        values,
    ).fetchall()
    found = statistics(db, graph, task=task, together=by == "dataset") if kept else []
    order = {one.name: one.idx for one in graph.defs.values()} if by == "task" else {}
    rows.sort(key=lambda row: order.get(row[0], 0))
    for group, _, name, *sums in rows:
        if name not in HOW or sums[1]:
            found.append(stat_view(group if by == "task" else None, name, tuple(sums), by=None if group is None else str(group)))
    return sorted(found, key=lambda row: order.get(row.by or "", 0)) if order else found


def histogram(db: sqlite3.Connection, graph: Graph, name: str, low: float, high: float, *, task: TaskDefRow | None = None, bins: int = 20) -> list[BinView]:
    """How many values of a statistic lie where, between its least and its largest; a bin for each number where they are few whole ones."""
    query, values = _values(graph, "dataset", task)
    if 0 < high - low < bins and low == int(low) and high == int(high):
        broken = f"WITH v (grp, place, name, value) AS ({query}) SELECT 1 FROM v WHERE name = ? AND value <> CAST(value AS INTEGER) LIMIT 1"
        if not db.execute(broken, [*values, name]).fetchone():
            bins, low, high = int(high - low) + 1, low - 0.5, high + 0.5
    width = (high - low) / bins if high > low else 1.0
    counts = dict(
        db.execute(
            f"WITH v (grp, place, name, value) AS ({query}) "
            "SELECT max(0, min(?, CAST((value - ?) / ? AS INTEGER))) AS bin, count(*) FROM v WHERE name = ? GROUP BY bin",
            [*values, bins - 1, low, width, name],
        ).fetchall()
    )
    if high <= low:
        return [BinView(low, high, sum(counts.values()))]
    return [BinView(low + at * width, low + (at + 1) * width, counts.get(at, 0)) for at in range(bins)]
