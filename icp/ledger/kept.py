"""Counts, statistics and run times that are kept beside the rows, so that nobody ever has to count (hides their tables)."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from icp.ledger.definitions import Definitions
from icp.ledger.rows import TaskRow
from icp.states import Task

__all__ = ["RECENT", "KeptCounts", "change_dataset_tally"]

RECENT = 32
"""How many of the last wall times of a task definition are remembered: enough for a median."""

_DONE = (Task.OK, Task.CANCELLED)


def change_dataset_tally(db: sqlite3.Connection, changes: Iterable[tuple[int, int, int]]) -> None:
    """Add (dataset, state, n) to what is kept."""
    db.executemany(
        "INSERT INTO dataset_tally VALUES (?, ?, ?) ON CONFLICT (dataset, state) DO UPDATE SET n = n + excluded.n",
        [change for change in changes if change[2]],
    )


class KeptCounts:
    """What one transaction changes of the kept counts."""

    def __init__(self) -> None:
        self.dataset: Counter[tuple[int, int]] = Counter()
        self.classes: Counter[tuple[int, int, int, int, int, int]] = Counter()
        self.by_site: Counter[tuple[int, int, int, int]] = Counter()
        self.finals: dict[tuple[int, int, int], list[int]] = {}
        self.stats: dict[tuple[int, int, str], list[float]] = {}
        self.stale: set[tuple[int, int]] = set()
        self.walls: dict[int, list[int]] = defaultdict(list)
        self.rss: dict[int, int] = {}
        self.swept: set[tuple[int, int, int]] = set()
        self._grouped: list[tuple[int, int, int, int, int]] = []

    def count(self, definitions: Definitions, tasks: Iterable[TaskRow]) -> None:
        """Note how these rows differ from what was read of them."""
        for task in tasks:
            now = (task.need, task.zone, task.site, task.state)
            if now == task.was:
                continue
            before = None if task.was is None else task.was[3]
            if task.was is not None:
                self._add(task.dataset, task.task_def, task.was, -1)
            self._add(task.dataset, task.task_def, now, 1)
            if task.state != before and task.job >= 0:
                finals = definitions.task_def(task.task_def).finals
                if finals:
                    left = (before in _DONE) - (task.state in _DONE)
                    oks = (task.state == Task.OK) - (before == Task.OK)
                    if left or oks:
                        self._grouped += [(task.dataset, final, task.job, left, oks) for final in finals]

    def _add(self, dataset: int, task_def: int, key: tuple[int, int, int, int], n: int) -> None:
        need, zone, site, state = key
        self.dataset[dataset, state] += n
        if state <= Task.PROCESSING:
            self.classes[dataset, task_def, need, zone, site, state] += n
        else:
            self.by_site[dataset, task_def, site, state] += n

    def statistics(self, dataset: int, task_def: int, stats: dict[str, float]) -> None:
        for name, value in stats.items():
            kept = self.stats.get((dataset, task_def, name))
            if kept is None:
                self.stats[dataset, task_def, name] = [1, value, value * value, value, value]
            else:
                kept[0] += 1
                kept[1] += value
                kept[2] += value * value
                kept[3] = min(kept[3], value)
                kept[4] = max(kept[4], value)

    def runtime(self, task_def: int, wall: int, rss: int) -> None:
        """``wall`` in ms, ``rss`` in KiB."""
        self.walls[task_def].append(wall)
        self.rss[task_def] = max(self.rss.get(task_def, 0), rss)

    def write(
        self, db: sqlite3.Connection, name_id: Callable[[str], int], definitions: Definitions
    ) -> Iterator[tuple[int, int, int, int]]:
        """Write all; yields (dataset, final task_def, group, left) for final tasks that are rows and whose count moved."""
        change_dataset_tally(db, ((dataset, state, n) for (dataset, state), n in self.dataset.items()))
        classes = [(*key, n) for key, n in self.classes.items() if n]
        db.executemany(
            "INSERT INTO live_class VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (dataset, task_def, need, zone, site, state) DO UPDATE SET n = n + excluded.n",
            classes,
        )
        db.executemany(
            "DELETE FROM live_class WHERE dataset = ? AND task_def = ? AND need = ? AND zone = ? AND site = ? AND state = ? AND n = 0",
            [row[:6] for row in classes if row[6] < 0],
        )
        db.executemany(
            "INSERT INTO tally VALUES (?, ?, ?, ?, ?) ON CONFLICT (dataset, task_def, site, state) DO UPDATE SET n = n + excluded.n",
            [(*key, n) for key, n in self.by_site.items() if n],
        )
        for (dataset, task_def, stat), (n, total, squares, low, high) in self.stats.items():
            db.execute(
                "INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (dataset, task_def, stat) DO UPDATE SET n = n + excluded.n, "
                "sum = sum + excluded.sum, squares = squares + excluded.squares, min = min(min, excluded.min), max = max(max, excluded.max)",
                (dataset, task_def, name_id(stat), n, total, squares, low, high),
            )
        for dataset, task_def in self.stale:
            db.execute("UPDATE summary SET stale = 1 WHERE dataset = ? AND task_def = ?", (dataset, task_def))
        self._write_runtimes(db)
        db.executemany(
            "UPDATE final_left SET made = 2 WHERE dataset = ? AND task_def = ? AND grp = ? AND made = 1", list(self.swept)
        )
        yield from self._write_finals(db, definitions)

    def _write_runtimes(self, db: sqlite3.Connection) -> None:
        for task_def, walls in self.walls.items():
            row = db.execute("SELECT n, recent, longest, rss FROM runtime WHERE task_def = ?", (task_def,)).fetchone()
            n, recent, longest, rss = row or (0, "[]", 0, 0)
            last = [*json.loads(recent), *walls][-RECENT:]
            db.execute(
                "INSERT OR REPLACE INTO runtime VALUES (?, ?, ?, ?, ?)",
                (task_def, n + len(walls), json.dumps(last), max(longest, *walls), max(rss, self.rss[task_def])),
            )

    def _write_finals(self, db: sqlite3.Connection, definitions: Definitions) -> Iterator[tuple[int, int, int, int]]:
        moved: dict[tuple[int, int, int], list[int]] = {}
        for dataset, final, job, left, oks in self._grouped:
            group = 0
            if definitions.task_def(final).final == 2:
                row = db.execute("SELECT grp FROM job_group WHERE task_def = ? AND job = ?", (final, job)).fetchone()
                group = row[0]
            sums = moved.setdefault((dataset, final, group), [0, 0])
            sums[0] += left
            sums[1] += oks
        for (dataset, final, group), (left, oks) in moved.items():
            db.execute(
                "UPDATE final_left SET left = left + ?, oks = oks + ? WHERE dataset = ? AND task_def = ? AND grp = ?",
                (left, oks, dataset, final, group),
            )
            now, made = db.execute(
                "SELECT left, made FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (dataset, final, group)
            ).fetchone()
            if made and left:
                yield dataset, final, group, now
