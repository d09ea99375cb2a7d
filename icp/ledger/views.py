"""What `status` shows: datasets, sites, the engine, the last errors, from kept counts only (hides their tables).

Reads only, plain records out. Nothing here looks at a single task: the cost follows the number of datasets and sites.
"""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from icp.errors import BadInput, NotFound
from icp.model.exchange import PASSING
from icp.states import Agent, Dataset, Pilot, Task

__all__ = [
    "DatasetView",
    "EngineView",
    "ErrorView",
    "SiteView",
    "agents",
    "dataset_names",
    "datasets",
    "engine",
    "find_dataset",
    "last_errors",
    "one_dataset",
    "sites",
]

LOOK_BACK = 200
"""Errors of each task definition among which the distinct ones are sought."""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """One dataset in numbers of tasks. ``state`` is ``errors`` when nothing moves any more and something failed."""

    number: int
    name: str
    category: str
    state: str
    reason: str | None
    jobs: int
    tasks: int
    """All of it: tasks of all jobs, and of the final tasks those that are known already."""
    ok: int
    processing: int
    queued: int
    waiting: int
    idle: int
    unreleased: int
    """Tasks of jobs that are not rows yet, and of final tasks whose time has not come."""
    failed: int
    suspended: int
    cancelled: int
    coming: int
    """Kept files that are not home yet."""
    priority: int
    submitted: float
    finished: float | None
    outputs: str
    follows: str | None = None
    """The dataset from whose outputs more jobs come."""


@dataclass(frozen=True, slots=True)
class SiteView:
    """One site as the last exchange left it. ``slots`` are cpus of live agents."""

    name: str
    reachable: bool
    unreachable_since: float | None
    reason: str | None
    answered: float | None
    pilots: dict[str, int]
    slots: int
    busy: int
    processing: int
    queued: int
    strange: int
    waits: str | None = None
    """The commonest reason that the batch system gives for pilots that wait."""
    paused: str | None = None
    draining: bool = False
    hold: float = 0.0
    """No pilot is submitted before this moment."""
    direct: bool = False
    """Its pilots are batch jobs that are there for one card each."""
    login: float | None = None
    """Since when it lets only a person in."""

    @property
    def refuses(self) -> str | None:
        """The word with which the site's spool refuses this ledger, if it does so for good."""
        said, _, word = (self.reason or "").partition("refused: ")
        return None if self.reachable or said or not word or word in PASSING else word


@dataclass(frozen=True, slots=True)
class PilotView:
    """One pilot, and what its batch system says of it."""

    pilot: str
    site: str
    state: str
    job: str | None
    made: float
    started: float | None
    ended: float | None
    word: str | None
    """pending, running, ended, unknown or absent: the batch system's last answer"""
    said: str | None
    never: str | None
    reason: str | None
    stopping: bool
    agents: int
    """Those that are live."""
    bag: bool = False
    """Its card travels with its job: what it does is told when that has ended."""


@dataclass(frozen=True, slots=True)
class EngineView:
    """Who ticks this ledger, and when it did so last; all None before the first tick."""

    pid: int | None
    host: str | None
    last_tick: float | None
    by: str | None = None
    """``cron``: what calls it every few minutes; None: a person started it."""


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Errors with one fingerprint among the last ones of a task definition; the rest describes the newest of them."""

    dataset: str
    number: int
    task: str
    job: int
    kind: str
    exit: int | None
    n: int
    at: float
    site: str
    text: str


_DATASET = (
    "SELECT id, name, category, state, reason, jobs, priority, coming, submitted, finished, outputs, released FROM dataset "
)


def datasets(
    db: sqlite3.Connection, *, category: str | None = None, site: str | None = None, ended: int | None = None
) -> list[DatasetView]:
    """Datasets that are not deleted: all that are at work, and the newest ``ended`` others (None: all), by number.

    ``site``: only those with tasks queued or processing there.
    """
    active = db.execute(_DATASET + "INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1)").fetchall()
    others = db.execute(
        _DATASET + "WHERE deleted IS NULL AND state NOT IN (0, 1) AND (? IS NULL OR category = ?) ORDER BY id DESC LIMIT ?",
        (category, category, -1 if ended is None else ended),
    ).fetchall()
    rows = sorted([row for row in active if category is None or row[2] == category] + others)
    if site is not None:
        here = {
            row[0]
            for row in db.execute(
                "SELECT DISTINCT dataset FROM live_class WHERE site = (SELECT id FROM site WHERE name = ?) AND n > 0", (site,)
            ).fetchall()
        }
        rows = [row for row in rows if row[0] in here]
    return [_dataset(db, row) for row in rows]


def one_dataset(db: sqlite3.Connection, number: int) -> DatasetView:
    """The dataset of this number (deleted ones too); NotFound."""
    row = db.execute(_DATASET + "WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"there is no dataset {number}", "`icp status` lists them")
    return _dataset(db, row)


def _dataset(db: sqlite3.Connection, row: tuple[int, str, str, int, str | None, int, int, int, float, float | None, str, int]) -> DatasetView:
    number, name, category, state, reason, jobs, priority, coming, submitted, finished, outputs, _ = row
    counts = dict.fromkeys(Task, 0)
    for one, n in db.execute("SELECT state, n FROM dataset_tally WHERE dataset = ?", (number,)).fetchall():
        counts[Task(one)] = n
    total = 0
    for task_def, final in db.execute("SELECT id, final FROM task_def WHERE dataset = ?", (number,)).fetchall():
        # groups are numbered from 0, so the largest number tells how many there are
        total += (_groups(db, number, task_def) if final else jobs)
    unreleased = max(0, total - sum(counts.values()))
    shown = Dataset(state).name.lower()
    moving = counts[Task.WAITING] + counts[Task.QUEUED] + counts[Task.PROCESSING] + (unreleased if _releasable(db, row) else 0)
    if state == Dataset.PROCESSING and counts[Task.FAILED] and not moving:
        shown = "errors"
    return DatasetView(
        number=number, name=name, category=category, state=shown, reason=reason, jobs=jobs, tasks=total,
        ok=counts[Task.OK], processing=counts[Task.PROCESSING], queued=counts[Task.QUEUED], waiting=counts[Task.WAITING],
        idle=counts[Task.IDLE], unreleased=unreleased, failed=counts[Task.FAILED], suspended=counts[Task.SUSPENDED],
        cancelled=counts[Task.CANCELLED], coming=coming, priority=priority, submitted=submitted, finished=finished, outputs=outputs,
        follows=_follows(db, number),
    )  # fmt: skip


def _follows(db: sqlite3.Connection, dataset: int) -> str | None:
    row = db.execute("SELECT p.name FROM follow w JOIN dataset p ON p.id = w.source WHERE w.dataset = ? AND w.open = 1", (dataset,)).fetchone()
    return None if row is None else str(row[0])


def _groups(db: sqlite3.Connection, dataset: int, task_def: int) -> int:
    row = db.execute("SELECT max(grp) FROM final_left WHERE dataset = ? AND task_def = ?", (dataset, task_def)).fetchone()
    return 0 if row[0] is None else int(row[0]) + 1


def _releasable(db: sqlite3.Connection, row: tuple[int, str, str, int, str | None, int, int, int, float, float | None, str, int]) -> bool:
    """Whether some job of the dataset may still become rows."""
    number, jobs, mark = row[0], row[5], row[11]
    if db.execute("SELECT 1 FROM range WHERE dataset = ? AND action = 'release' LIMIT 1", (number,)).fetchone():
        return True
    held = db.execute(
        "SELECT coalesce(sum(last - max(first, ?) + 1), 0) FROM range WHERE dataset = ? AND action IN ('cancel', 'suspend', 'released') AND last >= ?",
        (mark, number, mark),
    ).fetchone()
    return jobs - mark - int(held[0]) > 0


def dataset_names(db: sqlite3.Connection) -> list[tuple[int, str]]:
    """(number, name) of all datasets that are not deleted."""
    return db.execute("SELECT id, name FROM dataset WHERE deleted IS NULL ORDER BY id").fetchall()


def find_dataset(db: sqlite3.Connection, text: str) -> int:
    """The number of the dataset with this name, this number, or this unique beginning of a name.

    A name wins over a number, both over a beginning. BadInput when several names begin so, NotFound when none does.
    """
    row = db.execute("SELECT id FROM dataset WHERE name = ? AND deleted IS NULL", (text,)).fetchone()
    if row is None and text.isascii() and text.isdigit() and len(text) < 19:
        row = db.execute("SELECT id FROM dataset WHERE id = ? AND deleted IS NULL", (int(text),)).fetchone()
    if row is not None:
        return int(row[0])
    names = dataset_names(db)
    found = [(number, name) for number, name in names if text and name.startswith(text)]
    if len(found) == 1:
        return found[0][0]
    if found:
        some = ", ".join(f"{name} ({number})" for number, name in found[:8]) + (", ..." if len(found) > 8 else "")
        raise BadInput(f"{text!r} is the beginning of {len(found)} datasets' names: {some}", "type more of the name, or its number")
    near = difflib.get_close_matches(text, [name for _, name in names], 1)
    raise NotFound(f"there is no dataset {text!r}", f"did you mean {near[0]}?" if near else "`icp status` lists them")


def sites(db: sqlite3.Connection) -> list[SiteView]:
    """All sites that the ledger has met and that were not removed, by name."""
    work: dict[int, list[int]] = {}
    for site, state, n, body in db.execute(
        "SELECT c.site, c.state, sum(c.n), n.body FROM live_class c LEFT JOIN need n ON n.id = c.need "
        "WHERE c.site <> 0 AND c.state IN (2, 3) GROUP BY c.site, c.state, c.need"
    ).fetchall():
        sums = work.setdefault(site, [0, 0, 0])
        if state == Task.QUEUED:
            sums[0] += n
        else:
            sums[1] += n
            sums[2] += n * (max(1, int(json.loads(body)["cpus"])) if body else 1)
    views = []
    for number, name, since, reason, answered, strange, paused, draining, hold, login in db.execute(
        "SELECT id, name, unreachable, reason, answered, strange, paused, draining, hold, login FROM site WHERE gone IS NULL ORDER BY name"
    ).fetchall():
        pilots = {
            Pilot(state).name.lower(): n
            for state, n in db.execute("SELECT state, count(*) FROM pilot WHERE site = ? AND live = 1 GROUP BY state", (number,)).fetchall()
        }
        said = db.execute(
            "SELECT said, count(*) FROM pilot WHERE site = ? AND live = 1 AND state <= ? AND word = 'pending' AND said IS NOT NULL "
            "GROUP BY said ORDER BY 2 DESC, 1 LIMIT 1",
            (number, int(Pilot.PENDING)),
        ).fetchone()
        waits = None if said is None else str(said[0])
        slots = int(db.execute("SELECT coalesce(sum(cpus), 0) FROM agent WHERE site = ? AND live = 1 AND state IN (0, 1)", (number,)).fetchone()[0])
        # agents of batch jobs that took their cards along are not known before these end
        slots += int(db.execute("SELECT coalesce(sum(cpus), 0) FROM pilot WHERE site = ? AND live = 1 AND state = 3 AND bag = 1", (number,)).fetchone()[0])
        queued, processing, cpus = work.get(number, [0, 0, 0])
        # a claimed card holds more tasks than run at once
        views.append(SiteView(
            name, since is None, since, reason, answered, pilots, slots, min(slots, cpus), processing, queued, strange, waits, paused, bool(draining), hold,
            bool(db.execute("SELECT coalesce((SELECT card IS NOT NULL FROM pilot WHERE site = ? ORDER BY id DESC LIMIT 1), 0)", (number,)).fetchone()[0]),
            login,
        ))  # fmt: skip
    return views


def pilots(
    db: sqlite3.Connection, *, site: str | None = None, beginning: str | None = None, ended: int = 0, card: str | None = None
) -> list[PilotView]:
    """Live pilots, and the last ``ended`` that are not, the newest first; ``beginning``: of a pilot's id, whatever its state; ``card``: the one
    that is there for this card."""
    columns = (
        "SELECT hex(p.key), s.name, p.state, p.batch, p.made, p.started, p.ended, p.word, p.said, p.never, p.reason, p.stopping, "
        "(SELECT count(*) FROM agent a WHERE a.pilot = p.id AND a.live = 1), p.bag > 0 FROM pilot p JOIN site s ON s.id = p.site "
    )
    where, values = ("AND s.name = ? ", (site,)) if site is not None else ("", ())
    if card is not None:
        rows = db.execute(columns + "JOIN card c ON c.id = p.card WHERE c.key = ?", (bytes.fromhex(card),)).fetchall()
    elif beginning is not None:
        rows = db.execute(columns + "WHERE hex(p.key) LIKE ? ORDER BY p.id DESC LIMIT 20", (beginning + "%",)).fetchall()
    else:
        rows = db.execute(columns + f"WHERE p.live = 1 {where}ORDER BY p.id DESC", values).fetchall()
        rows += db.execute(columns + f"WHERE p.live = 0 {where}ORDER BY p.id DESC LIMIT ?", (*values, ended)).fetchall()
    return [
        PilotView(
            row[0].lower(), row[1], Pilot(row[2]).name.lower(), row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11] > 0, row[12],
            bool(row[13]),
        )
        for row in rows
    ]  # fmt: skip


def agents(db: sqlite3.Connection, pilot: str) -> dict[str, int]:
    """Agents of a pilot by state, those that ended too."""
    query = "SELECT a.state, count(*) FROM agent a JOIN pilot p ON p.id = a.pilot WHERE p.key = ? GROUP BY a.state ORDER BY a.state"
    rows = db.execute(query, (bytes.fromhex(pilot),))
    return {Agent(state).name.lower(): n for state, n in rows.fetchall()}


def engine(db: sqlite3.Connection) -> EngineView:
    """What the engine writes at each tick."""
    said = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('engine', 'last_tick')").fetchall())
    holder = json.loads(said.get("engine") or "{}")
    return EngineView(holder.get("pid"), holder.get("host"), said.get("last_tick"), holder.get("by"))


def last_errors(db: sqlite3.Connection, numbers: Iterable[int], limit: int = 3) -> list[ErrorView]:
    """The newest errors of these datasets, one for each fingerprint, among the last ones of each task definition.

    Those of attempts that a reset or a retry left behind are not shown.
    """
    found: list[ErrorView] = []
    for number in numbers:
        name = db.execute("SELECT name FROM dataset WHERE id = ?", (number,)).fetchone()[0]
        for task_def, task in db.execute("SELECT id, name FROM task_def WHERE dataset = ?", (number,)).fetchall():
            rows = db.execute(
                "SELECT e.id, e.fingerprint, e.kind, e.at, a.exit, t.job, s.name FROM error e JOIN attempt a ON a.id = e.attempt "
                "JOIN task t ON t.id = a.task JOIN site s ON s.id = a.site WHERE e.task_def = ? AND a.void = 0 AND a.id > t.mark "
                "ORDER BY e.id DESC LIMIT ?",
                (task_def, LOOK_BACK),
            ).fetchall()
            seen: dict[bytes, list[tuple[int, bytes, str, float, int | None, int, str]]] = {}
            for row in rows:
                seen.setdefault(row[1], []).append(row)
            for same in seen.values():
                error, _, kind, at, exit_, job, site = same[0]
                text = db.execute("SELECT text FROM error WHERE id = ?", (error,)).fetchone()[0]
                found.append(ErrorView(name, number, task, job, kind, exit_, len(same), at, site, text))
    found.sort(key=lambda one: -one.at)
    return found[:limit]
