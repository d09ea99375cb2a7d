"""What attempts cost and made, kept by definition and site and by the minute, so that nobody has to look at them again (hides the sums)."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

from icp.ledger.rows import AttemptRow, TaskRow

__all__ = ["MINUTE", "KeptWork"]

MINUTE = 60_000
"""Milliseconds."""
_OLDEST = 60 * 86_400_000
"""What a site tells of an older past is taken as of that day: it may tell anything."""


class KeptWork:
    """What one transaction changes of it. ``now`` is in seconds."""

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self.db, self.now = db, round(now * 1000)
        self.sums: dict[tuple[int, int, int], list[int]] = {}
        self.ok: Counter[tuple[int, int, int]] = Counter()
        self.edge: Counter[tuple[int, int, int]] = Counter()
        self.whole: Counter[tuple[int, int, int]] = Counter()
        self._cpus: dict[int, int] = {}

    def ended(self, task: TaskRow, attempt: AttemptRow, *, accepted: bool = False, size: int = 0) -> None:
        """An attempt ended; ``size``: bytes of the outputs of one that is accepted. One that never began costs nothing."""
        if attempt.begun is None and not accepted:
            return
        wall, held = self._held(task, attempt)
        self._add(task, attempt, [1, 0, held, 0, attempt.cpu or 0, size] if accepted else [0, 1, 0, held, 0, 0])
        begun = self.now if attempt.begun is None else attempt.begun * 1000
        end = round(min(self.now, max(self.now - _OLDEST, begun + wall)))
        minute = end // MINUTE
        if accepted:
            self.ok[task.dataset, minute, attempt.site] += 1
        cpus = self._cpus_of(task.need)
        first = (end - wall) // MINUTE
        if first == minute:
            self.edge[task.dataset, minute, attempt.site] += wall * cpus
        else:
            self.edge[task.dataset, first, attempt.site] += ((first + 1) * MINUTE - (end - wall)) * cpus
            self.edge[task.dataset, minute, attempt.site] += (end - minute * MINUTE) * cpus
            if first + 1 < minute:
                self.whole[task.dataset, first + 1, attempt.site] += cpus
                self.whole[task.dataset, minute, attempt.site] -= cpus

    def taken_back(self, task: TaskRow, attempt: AttemptRow) -> None:
        """What was accepted counts no more: what it cost is wasted."""
        _, held = self._held(task, attempt)
        size = self.db.execute("SELECT coalesce(sum(bytes), 0) FROM file WHERE attempt = ?", (attempt.id,)).fetchone()[0]
        self._add(task, attempt, [-1, 1, -held, held, -(attempt.cpu or 0), -int(size)])
        self.ok[task.dataset, self.now // MINUTE, attempt.site] -= 1

    def _held(self, task: TaskRow, attempt: AttemptRow) -> tuple[int, int]:
        wall = min(_OLDEST, (attempt.staging or 0) + (attempt.running or 0) + (attempt.storing or 0))
        return wall, wall * self._cpus_of(task.need)

    def _cpus_of(self, need: int) -> int:
        if need not in self._cpus:
            row = self.db.execute("SELECT body FROM need WHERE id = ?", (need,)).fetchone()
            self._cpus[need] = 1 if row is None else max(1, int(json.loads(row[0])["cpus"]))
        return self._cpus[need]

    def _add(self, task: TaskRow, attempt: AttemptRow, values: list[int]) -> None:
        key = (task.dataset, task.task_def, attempt.site)
        sums = self.sums.setdefault(key, [0] * 6)
        for at, value in enumerate(values):
            sums[at] += value

    def write(self) -> None:
        """Add all of it to what is kept."""
        self.db.executemany(
            "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (dataset, task_def, site) DO UPDATE SET ok = ok + excluded.ok, "
            "others = others + excluded.others, good = good + excluded.good, wasted = wasted + excluded.wasted, cpu = cpu + excluded.cpu, "
            "bytes = bytes + excluded.bytes",
            [(*key, *values) for key, values in self.sums.items()],
        )
        self.db.executemany(
            "INSERT INTO minute VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (dataset, minute, site) DO UPDATE SET ok = ok + excluded.ok, "
            "edge = edge + excluded.edge, whole = whole + excluded.whole",
            [(*key, self.ok[key], self.edge[key], self.whole[key]) for key in {**self.ok, **self.edge, **self.whole}],
        )
