"""What `jobs`, `tasks` and `show` read: jobs with their derived states, tasks, attempts, and the story of one dataset (hides their joins).

Lists walk an index from one job on and end at their limit; only states that a person waits for have an index of their own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icp.errors import NotFound
from icp.ledger import ranges
from icp.ledger.definitions import Graph, TaskDefRow
from icp.ledger.transferred import TransferView, of_attempts
from icp.pilot.live import parse
from icp.states import Attempt, Task

__all__ = [
    "JOB_STATES",
    "AttemptView",
    "CommandView",
    "DefinitionView",
    "FinalView",
    "JobView",
    "TaskView",
    "attempts",
    "backing_off",
    "commands",
    "definition_states",
    "job_states",
    "jobs",
    "spans",
    "steering_text",
    "tasks",
    "unmade_finals",
]

JOB_STATES = ("unreleased", "waiting", "queued", "processing", "ok", "failed", "suspended", "cancelled")
"""States of a job, derived from its tasks' and never stored."""
TASK_STATES = tuple(state.name.lower() for state in Task)


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, or (``last`` > ``job``) a range of jobs that are not rows and are alike; ``tasks`` counts states of one job's tasks."""

    job: int
    last: int
    state: str
    tasks: dict[str, int]
    sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task with its accepted attempt, or else its newest one. ``job`` is None for a final task, ``group`` for any other."""

    id: int
    job: int | None
    group: int | None
    task: str
    state: str
    tries: int
    site: str | None
    host: str | None
    attempt: str | None
    attempt_state: str | None
    exit: int | None
    error: str | None
    wall: float | None
    """Seconds from the begin of copying inputs to the end."""
    cpu: float | None
    memory: int | None
    """Bytes."""
    begun: float | None
    waiting_on: int
    not_before: float | None
    need: int
    zone: int
    priority: int


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try at a task. Durations are seconds, ``memory`` bytes; ``log`` is (card, offset, bytes of stdout, of stderr)."""

    id: int
    attempt: str
    number: int
    state: str
    void: bool
    stopping: bool
    site: str
    host: str | None
    agent: str | None
    since: float | None
    """Seconds, observed at its site, since it took its state; None when it ended."""
    begun: float | None
    copying_input: float | None
    running: float | None
    copying_output: float | None
    cpu: float | None
    memory: int | None
    exit: int | None
    kind: str | None
    text: str | None
    failed_at: float | None
    stats: dict[str, float]
    made: float
    log: tuple[str, int, int, int] | None
    software: dict[str, Any]
    """Environment -> what it really had of it: way, platform, revision by repository, tarball (sha256), python."""
    card: str = ""
    agent_state: int | None = None
    agent_silent: float | None = None
    heard: tuple[str, float] | None = None
    """(phase, when by the worker's clock) of one that travels with its batch job, in that job's word; ``state``, ``host`` and ``agent`` are then by it too."""
    transfers: list[TransferView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DefinitionView:
    """A task definition of a dataset, and how many of its tasks are in which state; ``sites``: (site, state) -> tasks."""

    task: str
    final: bool
    after: tuple[str, ...]
    outputs: tuple[str, ...]
    states: dict[str, int]
    median: float | None
    """Median wall time of the last accepted attempts, seconds."""
    memory: int
    """Largest memory of an accepted attempt, bytes."""
    sites: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommandView:
    """What a person ordered."""

    at: float
    who: str
    what: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class FinalView:
    """A group of a final task that is not a row yet: ``left`` (job, parent) pairs are neither ok nor cancelled."""

    task: str
    group: int
    key: str
    jobs: int
    left: int
    ok: int


# -- jobs ---------------------------------------------------------------------------------------------------------


def job_state(counts: dict[int, int]) -> str:
    """The state of a job whose tasks are in these states: what moves names it, then what a person must look at."""
    for state in (Task.PROCESSING, Task.QUEUED, Task.WAITING, Task.FAILED, Task.SUSPENDED):
        if counts.get(state):
            return state.name.lower()
    if counts.get(Task.IDLE):
        return "waiting"
    return "ok" if counts.get(Task.OK) else "cancelled"


_COUNTS = ", ".join(f"sum(t.state = {state.value})" for state in Task)
# a job is in a state only if one of its tasks is, so the index of that state names the candidates
_CANDIDATES = {
    "failed": (Task.FAILED,),
    "suspended": (Task.SUSPENDED,),
    "waiting": (Task.WAITING, Task.IDLE),
    "queued": (Task.QUEUED,),
    "processing": (Task.PROCESSING,),
}


def jobs(
    db: sqlite3.Connection,
    graph: Graph,
    first: int,
    last: int,
    *,
    state: str | None = None,
    site: str | None = None,
    task: TaskDefRow | None = None,
    limit: int | None = None,
) -> Iterator[JobView]:
    """Jobs first..last in order, those that are not rows as ranges; with ``task`` the state is that of this one task."""
    left = limit
    width = len(graph.tasks) if task is None else 1
    for low, high, status in ranges.segments(db, graph.dataset, first, last):
        if left is not None and left <= 0:
            return
        if status == "rows":
            found = _job_rows(db, graph, low, high, state, site, task, left)
        else:
            word = {"cancel": "cancelled", "suspend": "suspended"}.get(status, "unreleased")
            found = [] if site is not None or (state is not None and state != word) else [JobView(low, high, word, {word: width})]
        yield from found
        if left is not None:
            left -= len(found)


def _job_rows(
    db: sqlite3.Connection, graph: Graph, low: int, high: int, state: str | None, site: str | None, task: TaskDefRow | None, limit: int | None
) -> list[JobView]:
    query = f"SELECT t.job, {_COUNTS}, group_concat(DISTINCT nullif(t.site, 0)) FROM task t INDEXED BY task_job WHERE t.dataset = ? AND t.job BETWEEN ? AND ?"
    values: list[Any] = [graph.dataset, low, high]
    if task is not None:
        query += " AND t.task_def = ?"
        values.append(task.id)
    if state in _CANDIDATES:
        parts = []
        for one in _CANDIDATES[state]:
            live = one <= Task.PROCESSING
            where = "live = 1" if live else "live = 0 AND state IN (5, 6)"
            parts.append(f"SELECT job FROM task INDEXED BY {'task_live' if live else 'task_stuck'} WHERE {where} AND dataset = ? AND state = ?")
            values += [graph.dataset, int(one)]
        query += f" AND t.job IN ({' UNION '.join(parts)})"
    query += " GROUP BY t.job"
    having = []
    if site is not None:
        having.append("max(t.site = (SELECT id FROM site WHERE name = ?))")
        values.append(site)
    if state is not None:
        having.append(f"({_STATE_SQL}) = ?")
        values.append(state)
    if having:
        query += " HAVING " + " AND ".join(having)
    query += " ORDER BY t.job LIMIT ?"
    values.append(-1 if limit is None else limit)
    names = dict(db.execute("SELECT id, name FROM site").fetchall())
    found = []
    for job, *numbers, sites in db.execute(query, values).fetchall():
        counts = {one: n for one, n in zip(Task, numbers, strict=True) if n}
        at = tuple(sorted(names.get(int(one), "?") for one in str(sites).split(","))) if sites else ()
        found.append(JobView(job, job, job_state({int(one): n for one, n in counts.items()}), {one.name.lower(): n for one, n in counts.items()}, at))
    return found


_STATE_SQL = (
    "CASE WHEN sum(t.state = 3) THEN 'processing' WHEN sum(t.state = 2) THEN 'queued' WHEN sum(t.state = 1) THEN 'waiting' "
    "WHEN sum(t.state = 5) THEN 'failed' WHEN sum(t.state = 6) THEN 'suspended' WHEN sum(t.state = 0) THEN 'waiting' "
    "WHEN sum(t.state = 4) THEN 'ok' ELSE 'cancelled' END"
)


def job_states(db: sqlite3.Connection, graph: Graph, job: int) -> JobView:
    """One job; a job that is not a row shows the range it lies in."""
    low, high, status = ranges.segments(db, graph.dataset, job, job)[0]
    return next(jobs(db, graph, low, high)) if status == "rows" else JobView(job, job, _RANGE_WORD[status], {})


_RANGE_WORD = {"cancel": "cancelled", "suspend": "suspended", "none": "unreleased", "release": "unreleased"}


def spans(db: sqlite3.Connection, dataset: int, first: int, last: int) -> list[tuple[int, int, str]]:
    """The jobs first..last cut where their status changes: ``rows``, ``unreleased``, ``suspended`` or ``cancelled``."""
    return [(low, high, _RANGE_WORD.get(status, "rows")) for low, high, status in ranges.segments(db, dataset, first, last)]


# -- tasks --------------------------------------------------------------------------------------------------------

_TASK = (
    "SELECT t.id, t.job, t.task_def, t.state, (SELECT count(*) FROM attempt x WHERE x.task = t.id), s.name, h.text, a.key, a.state, a.exit, e.kind, "
    "a.staging + a.running + a.storing, a.cpu, a.rss, a.begun, t.waiting_on, t.not_before, t.need, t.zone, t.priority "
    "FROM task t {index} LEFT JOIN attempt a ON a.id = coalesce(t.accepted, (SELECT max(x.id) FROM attempt x WHERE x.task = t.id)) "
    "LEFT JOIN site s ON s.id = a.site LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name h ON h.id = g.host "
    "LEFT JOIN error e ON e.id = a.error WHERE t.dataset = ? AND t.job BETWEEN ? AND ?"
)


def tasks(
    db: sqlite3.Connection,
    graph: Graph,
    first: int,
    last: int,
    *,
    state: str | None = None,
    site: str | None = None,
    task: TaskDefRow | None = None,
    limit: int | None = None,
) -> list[TaskView]:
    """Tasks of jobs first..last that are rows, by job and definition (negative jobs are final tasks)."""
    values: list[Any] = [graph.dataset, first, last]
    index, where = "INDEXED BY task_job", ""
    if state is not None:
        number = Task[state.upper()]
        if number in (Task.FAILED, Task.SUSPENDED):
            index, where = "INDEXED BY task_stuck", " AND t.live = 0 AND t.state IN (5, 6)"
        elif number <= Task.PROCESSING:
            index, where = "INDEXED BY task_live", " AND t.live = 1"
        where += " AND t.state = ?"
        values.append(int(number))
    if task is not None:
        where += " AND t.task_def = ?"
        values.append(task.id)
    if site is not None:
        where += " AND t.site = (SELECT id FROM site WHERE name = ?)"
        values.append(site)
    values.append(-1 if limit is None else limit)
    rows = db.execute(_TASK.format(index=index) + where + " ORDER BY t.job, t.task_def LIMIT ?", values).fetchall()
    return [_task_view(graph, row) for row in rows]


def _task_view(graph: Graph, row: Sequence[Any]) -> TaskView:
    job = row[1]
    return TaskView(
        id=row[0], job=job if job >= 0 else None, group=None if job >= 0 else -1 - job, task=graph.defs[row[2]].name, state=Task(row[3]).name.lower(),
        tries=row[4], site=row[5], host=row[6], attempt=None if row[7] is None else row[7].hex(),
        attempt_state=None if row[8] is None else Attempt(row[8]).name.lower(), exit=row[9], error=row[10], wall=_seconds(row[11]), cpu=_seconds(row[12]),
        memory=None if row[13] is None else row[13] * 1024, begun=row[14], waiting_on=row[15], not_before=row[16], need=row[17], zone=row[18],
        priority=row[19],
    )  # fmt: skip


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def attempts(db: sqlite3.Connection, task: int) -> list[AttemptView]:
    """All tries at a task, in order."""
    rows = db.execute(
        "SELECT a.id, a.key, a.try, a.state, a.void, a.stop, s.name, h.text, g.name, s.observed - a.since, a.begun, a.staging, a.running, a.storing, "
        "a.cpu, a.rss, a.exit, e.kind, e.text, e.at, a.stats, c.made, c.key, a.log, a.out, a.err, g.state, g.silent, w.text, "
        "CASE WHEN a.live = 1 AND a.state = 0 THEN (SELECT p.tells FROM pilot p INDEXED BY pilot_card WHERE p.card = a.card AND p.bag IN (1, 2, 3)) END "
        "FROM attempt a JOIN site s ON s.id = a.site JOIN card c ON c.id = a.card LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name h ON h.id = g.host "
        "LEFT JOIN error e ON e.id = a.error LEFT JOIN name w ON w.id = a.had WHERE a.task = ? ORDER BY a.id",
        (task,),
    ).fetchall()
    moved = of_attempts(db, [row[0] for row in rows])
    return [
        _heard(row[29], AttemptView(
            id=row[0], attempt=row[1].hex(), number=row[2], state=Attempt(row[3]).name.lower(), void=bool(row[4]), stopping=bool(row[5]), site=row[6],
            host=row[7], agent=row[8], since=row[9], begun=row[10], copying_input=_seconds(row[11]), running=_seconds(row[12]),
            copying_output=_seconds(row[13]), cpu=_seconds(row[14]), memory=None if row[15] is None else row[15] * 1024, exit=row[16], kind=row[17],
            text=row[18], failed_at=row[19], stats=json.loads(row[20]) if row[20] else {}, made=row[21], card=row[22].hex(),
            log=None if row[23] is None else (row[22].hex(), row[23], row[24], row[25]), agent_state=row[26], agent_silent=row[27],
            transfers=moved[row[0]],
            software=json.loads(row[28]) if row[28] else {},
        ))
        for row in rows
    ]  # fmt: skip


_PHASES = {"claimed": "claimed", "staging": "copying_input", "running": "running", "storing": "copying_output", "ended": "copying_output"}


def _heard(tells: str | None, view: AttemptView) -> AttemptView:
    """What the running batch job says of an attempt that travels with it: the newest that is about it, or about its card."""
    told = parse(tells)
    said = [] if told is None else [one for one in told.said if one.about in (view.attempt, view.card)]
    if told is None or not said:
        return view
    return replace(view, state=_PHASES[said[-1].word], host=told.host, agent=told.agent, heard=(said[-1].word, float(said[-1].at)))


# -- one dataset --------------------------------------------------------------------------------------------------


def definition_states(db: sqlite3.Connection, graph: Graph) -> list[DefinitionView]:
    """Every task definition with its counts, from what is kept; tasks of jobs that are not rows are not in them."""
    counts: dict[int, dict[tuple[int, int], int]] = {one: {} for one in graph.defs}
    for table in ("live_class", "tally"):
        for task_def, site, state, n in db.execute(
            f"SELECT task_def, site, state, sum(n) FROM {table} WHERE dataset = ? GROUP BY task_def, site, state", (graph.dataset,)
        ).fetchall():
            if n:
                counts[task_def][site, state] = n
    names = dict(db.execute("SELECT id, name FROM site").fetchall())
    views = []
    for one in graph.defs.values():
        states: dict[str, int] = {}
        sites: dict[str, dict[str, int]] = {}
        for (site, state), n in sorted(counts[one.id].items()):
            word = Task(state).name.lower()
            states[word] = states.get(word, 0) + n
            if site:
                sites.setdefault(names.get(site, "?"), {})[word] = n
        row = db.execute("SELECT recent, rss FROM runtime WHERE task_def = ?", (one.id,)).fetchone()
        recent = sorted(json.loads(row[0])) if row else []
        median = recent[len(recent) // 2] / 1000 if recent else None
        views.append(
            DefinitionView(
                one.name, bool(one.final), tuple(graph.defs[parent].name for parent in one.parents), tuple(output.name for output in one.outputs),
                states, median, row[1] * 1024 if row else 0, sites,
            )
        )
    return views


def backing_off(db: sqlite3.Connection, graph: Graph, task_def: int, need: int, now: float, most: int = 1000) -> tuple[int, float | None]:
    """(how many waiting tasks of a class go again only later, when the first of them does), counted up to ``most``."""
    row = db.execute(
        "SELECT count(*), min(not_before) FROM (SELECT not_before FROM task INDEXED BY task_live "
        "WHERE live = 1 AND dataset = ? AND task_def = ? AND need = ? AND state = 1 AND not_before > ? LIMIT ?)",
        (graph.dataset, task_def, need, now, most),
    ).fetchone()
    return int(row[0]), row[1]


def unmade_finals(db: sqlite3.Connection, graph: Graph, limit: int = 5) -> list[FinalView]:
    """Groups of final tasks whose time has not come, a few of each final task."""
    found: list[FinalView] = []
    for one in graph.finals:
        rows = db.execute(
            "SELECT grp, key, members, left, oks FROM final_left WHERE dataset = ? AND task_def = ? AND made = 0 ORDER BY grp LIMIT ?",
            (graph.dataset, one.id, limit),
        ).fetchall()
        found += [FinalView(one.name, *row) for row in rows]
    return found


def commands(db: sqlite3.Connection, dataset: int, limit: int = 50) -> list[CommandView]:
    """What was ordered of a dataset, the oldest of the last ones first."""
    rows = db.execute("SELECT at, who, what, detail FROM command WHERE dataset = ? ORDER BY id DESC LIMIT ?", (dataset, limit)).fetchall()
    return [CommandView(*row) for row in reversed(rows)]


def steering_text(db: sqlite3.Connection, dataset: int) -> tuple[str, int, str]:
    """(steering file as it was, seed, the directory it was in)."""
    row = db.execute("SELECT steering, seed, directory FROM dataset WHERE id = ?", (dataset,)).fetchone()
    if row is None:
        raise NotFound(f"there is no dataset {dataset}", "`icp status` lists them")
    return str(row[0]), int(row[1]), str(row[2])
