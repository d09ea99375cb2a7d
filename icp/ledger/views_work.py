"""What a dataset or a site has done and how fast: work, rate, time to go, and its course over time, from kept sums only (hides minutes)."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any

from icp.ledger.views import DatasetView
from icp.ledger.work import MINUTE
from icp.states import Attempt

__all__ = ["CourseView", "ProgressView", "WorkView", "course", "progress", "work"]

WINDOWS = (600, 3600, 6 * 3600, 86400)
"""Seconds over which a rate is taken: the first in which enough became ok to tell."""
ENOUGH = 30
BINS = 12
WIDE = 1.28
"""Deviations on either side between which eight of ten would end."""


@dataclass(frozen=True, slots=True)
class WorkView:
    """What attempts of a task cost and made at a site; ``good`` and ``wasted`` are core-seconds held by accepted and by all other attempts."""

    task: str
    site: str
    ok: int
    others: int
    good: float
    wasted: float
    cpu: float
    bytes: int


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How fast a dataset goes, and what it has cost so far."""

    rate: float | None
    """Tasks that become ok, per second; None while nothing can be said."""
    deviation: float | None
    left: int
    """Tasks that still move by themselves."""
    to_go: float | None
    """Seconds at this rate; ``soonest`` and ``latest``: eight of ten would end between them, ``latest`` None: that cannot be said."""
    soonest: float | None
    latest: float | None
    core_hours: float
    wasted: float
    """Those of them that attempts held which do not count."""
    efficiency: float | None
    """Core-hours that count over all."""
    cpu_hours: float
    bytes: int
    """Of outputs of accepted attempts."""


@dataclass(frozen=True, slots=True)
class CourseView:
    """One stretch of time: ``ok`` tasks at its end, ``busy`` cpus held during it on average."""

    at: float
    seconds: float
    ok: int
    busy: float


def work(db: sqlite3.Connection, dataset: int) -> list[WorkView]:
    """By task definition and site."""
    rows = db.execute(
        "SELECT d.name, s.name, w.ok, w.others, w.good, w.wasted, w.cpu, w.bytes FROM work w JOIN task_def d ON d.id = w.task_def "
        "JOIN site s ON s.id = w.site WHERE w.dataset = ? ORDER BY d.idx, s.name",
        (dataset,),
    ).fetchall()
    return [WorkView(row[0], row[1], row[2], row[3], row[4] / 1000, row[5] / 1000, row[6] / 1000, row[7]) for row in rows]


def progress(db: sqlite3.Connection, view: DatasetView, now: float) -> ProgressView:
    """Of one dataset; what was told last is what counts, so ``now`` is cut to the last tick."""
    good, wasted, cpu, size = db.execute(
        "SELECT coalesce(sum(good), 0) / 3.6e6, coalesce(sum(wasted), 0) / 3.6e6, coalesce(sum(cpu), 0) / 3.6e6, coalesce(sum(bytes), 0) "
        "FROM work WHERE dataset = ?",
        (view.number,),
    ).fetchone()
    rate, deviation = _rate(db, view, _last(db, view, now))
    left = view.processing + view.queued + view.waiting + view.idle + view.unreleased if view.state == "processing" else 0
    to_go = soonest = latest = None
    if rate and left:
        spread = WIDE * (deviation or 0.0)
        to_go, soonest = left / rate, left / (rate + spread)
        latest = left / (rate - spread) if rate > spread else None
    total = good + wasted
    return ProgressView(rate, deviation, left, to_go, soonest, latest, total, wasted, good / total if total else None, cpu, int(size))


def _last(db: sqlite3.Connection, view: DatasetView, now: float) -> float:
    tick = db.execute("SELECT value FROM meta WHERE key = 'last_tick'").fetchone()
    end = now if tick is None or tick[0] is None else min(now, float(tick[0]))
    return end if view.finished is None else min(end, view.finished)


def _rate(db: sqlite3.Connection, view: DatasetView, end: float) -> tuple[float | None, float | None]:
    first = db.execute("SELECT min(minute) FROM minute WHERE dataset = ?", (view.number,)).fetchone()[0]
    if first is None:
        return None, None
    since = max(view.submitted, first * MINUTE / 1000)
    counts: list[tuple[int, int]] = []
    begin = since
    for window in (*WINDOWS, math.inf) if view.finished is None else (math.inf,):
        begin = max(since, end - window)
        counts = db.execute(
            "SELECT minute, sum(ok) FROM minute WHERE dataset = ? AND minute BETWEEN ? AND ? GROUP BY minute",
            (view.number, math.ceil(begin * 1000 / MINUTE) if begin > since else first, int(end * 1000) // MINUTE),
        ).fetchall()
        if sum(n for _, n in counts) >= ENOUGH or begin == since:
            break
    total, seconds = sum(n for _, n in counts), end - begin
    if total <= 0 or seconds < 10:
        return None, None
    bins = max(1, min(BINS, int(seconds / 60)))
    heights = [0] * bins
    for minute, n in counts:
        heights[min(bins - 1, max(0, int((minute * MINUTE / 1000 - begin) / seconds * bins)))] += n
    mean = total / bins
    scatter = sum((one - mean) ** 2 for one in heights) / (bins - 1) * bins if bins > 1 else 0.0
    return total / seconds, math.sqrt(max(scatter, total)) / seconds


def course(db: sqlite3.Connection, *, dataset: int | None = None, site: str | None = None, now: float, stretches: int = 60) -> list[CourseView]:
    """Completion and cpus in use from the first minute to the last, cut into at most so many stretches; of all that is not deleted by default."""
    where, values = _where(dataset, site)
    rows = db.execute(f"SELECT minute, sum(ok), sum(edge), sum(whole) FROM minute m WHERE {where} GROUP BY minute ORDER BY minute", values).fetchall()
    if not rows:
        return []
    tick = db.execute("SELECT value FROM meta WHERE key = 'last_tick'").fetchone()
    end = now if tick is None or tick[0] is None else min(now, float(tick[0]))
    live = _live(db, dataset, site, end)
    first = min([rows[0][0], *(begin * 1000 // MINUTE for begin, _ in live)])
    last = max(rows[-1][0], int(end * 1000) // MINUTE if live else 0)
    # from the change at each minute to what was held in it
    minutes = int(last - first) + 1
    ok, held, change = [0] * minutes, [0.0] * minutes, [0.0] * (minutes + 1)
    for minute, n, edge, whole in rows:
        ok[int(minute - first)] += n
        held[int(minute - first)] += edge / MINUTE
        change[int(minute - first)] += whole
    for begin, cpus in live:
        change[int(begin * 1000 // MINUTE - first)] += cpus
    size = max(1, math.ceil(minutes / stretches))
    found, done, level = [], 0, 0.0
    for at in range(0, minutes, size):
        busy = 0.0
        for one in range(at, min(at + size, minutes)):
            level += change[one]
            done += ok[one]
            busy += level + held[one]
        n = min(at + size, minutes) - at
        found.append(CourseView((first + at) * MINUTE / 1000, n * MINUTE / 1000, done, max(0.0, busy / n)))
    return found


def _where(dataset: int | None, site: str | None) -> tuple[str, list[Any]]:
    parts: list[tuple[str, Any]] = [] if dataset is None else [("m.dataset = ?", dataset)]
    if site is not None:
        parts.append(("m.site = (SELECT id FROM site WHERE name = ?)", site))
    of_all = "m.dataset IN (SELECT id FROM dataset WHERE deleted IS NULL)"
    return " AND ".join([part for part, _ in parts] + ([of_all] if dataset is None else [])), [value for _, value in parts]


def _live(db: sqlite3.Connection, dataset: int | None, site: str | None, end: float) -> list[tuple[float, int]]:
    """(moment of its begin, cpus) of attempts that run: what is kept tells of those that ended."""
    rows = db.execute(
        "SELECT s.observed - a.since, n.body, t.dataset, s.name FROM site s CROSS JOIN attempt a INDEXED BY attempt_live "
        f"ON a.site = s.id AND a.live = 1 AND a.state IN ({int(Attempt.COPYING_INPUT)}, {int(Attempt.RUNNING)}, {int(Attempt.COPYING_OUTPUT)}) "
        "JOIN task t ON t.id = a.task JOIN need n ON n.id = t.need WHERE a.since IS NOT NULL"
    ).fetchall()
    return [
        (end - max(0.0, age), max(1, int(json.loads(body)["cpus"])))
        for age, body, of, at in rows
        if dataset in (None, of) and site in (None, at)
    ]
