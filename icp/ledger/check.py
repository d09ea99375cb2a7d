"""Whether a ledger is true to itself: every invariant that the rest relies on, recounted from the rows (hides the recounts).

The one reader that looks at the whole ledger: it costs as much as there is, in chunks that bound its memory.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from icp.ledger.db import Ledger
from icp.ledger.files import home_path, relay_path
from icp.pilot.digest import digest_of
from icp.states import Attempt, Dataset, File, Task

__all__ = ["EACH", "check"]

EACH = 20
"""Violations of one invariant that are written out; the rest is a number."""
CHUNK = 200_000
"""Rows of a big table that one query looks at."""

Found = Iterator[str]

_TASK = "task {0} (dataset {1}, job {2}, definition {3})"

# (what is wrong, a query over tasks t with ids BETWEEN ? AND ?, whose first columns are id, dataset, job, task_def)
_TASKS: tuple[tuple[str, str], ...] = (
    (
        _TASK + " is in state {4} and its accepted attempt is {5}",
        "SELECT t.id, t.dataset, t.job, t.task_def, t.state, t.accepted FROM task t WHERE t.id BETWEEN ? AND ? AND (t.state = 4) <> (t.accepted IS NOT NULL)",
    ),
    (
        _TASK + " accepted attempt {4}, which is not an attempt of it in state ok that counts (task {5}, state {6}, void {7})",
        "SELECT t.id, t.dataset, t.job, t.task_def, t.accepted, a.task, a.state, a.void FROM task t LEFT JOIN attempt a ON a.id = t.accepted "
        f"WHERE t.id BETWEEN ? AND ? AND t.accepted IS NOT NULL AND (a.id IS NULL OR a.task <> t.id OR a.state <> {int(Attempt.OK)} OR a.void <> 0)",
    ),
    (
        _TASK + " is queued or processing without a live attempt that counts",
        "SELECT t.id, t.dataset, t.job, t.task_def FROM task t WHERE t.id BETWEEN ? AND ? AND t.live = 1 AND t.state IN (2, 3) "
        "AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.task = t.id AND a.live = 1 AND a.void = 0)",
    ),
    (
        _TASK + " is idle or waiting, and has a live attempt that counts",
        "SELECT t.id, t.dataset, t.job, t.task_def FROM task t WHERE t.id BETWEEN ? AND ? AND t.live = 1 AND t.state IN (0, 1) "
        "AND EXISTS (SELECT 1 FROM attempt a WHERE a.task = t.id AND a.live = 1 AND a.void = 0)",
    ),
    (
        _TASK + " is idle and waits on nothing",
        "SELECT t.id, t.dataset, t.job, t.task_def FROM task t WHERE t.id BETWEEN ? AND ? AND t.live = 1 AND t.state = 0 AND t.waiting_on <= 0",
    ),
    (
        _TASK + " waits on {4} parents by its row and on {5} by theirs",
        "SELECT t.id, t.dataset, t.job, t.task_def, t.waiting_on, "
        "(SELECT count(*) FROM edge e LEFT JOIN task p ON p.dataset = t.dataset AND p.job = t.job AND p.task_def = e.parent "
        "WHERE e.child = t.task_def AND p.accepted IS NULL) AS recount "
        "FROM task t WHERE t.id BETWEEN ? AND ? AND t.job >= 0 AND t.waiting_on <> recount",
    ),
    (
        _TASK + " waits on {4} by its row and on {5} by its group",
        "SELECT t.id, t.dataset, t.job, t.task_def, t.waiting_on, f.left FROM task t "
        "LEFT JOIN final_left f ON f.dataset = t.dataset AND f.task_def = t.task_def AND f.grp = -1 - t.job "
        "WHERE t.id BETWEEN ? AND ? AND t.job < 0 AND (f.grp IS NULL OR f.made = 0 OR t.waiting_on <> f.left)",
    ),
    (
        _TASK + " has more than one live attempt that counts",
        "SELECT t.id, t.dataset, t.job, t.task_def FROM task t WHERE t.id BETWEEN ? AND ? "
        "AND (SELECT count(*) FROM attempt a WHERE a.task = t.id AND a.live = 1 AND a.void = 0) > 1",
    ),
    (
        _TASK + " has its live or accepted attempt at site {5}, and says site {4}",
        "SELECT t.id, t.dataset, t.job, t.task_def, t.site, a.site FROM task t JOIN attempt a ON a.id = coalesce(t.accepted, "
        "(SELECT max(x.id) FROM attempt x WHERE x.task = t.id AND x.live = 1 AND x.void = 0)) "
        "WHERE t.id BETWEEN ? AND ? AND t.state IN (2, 3, 4) AND t.site <> a.site",
    ),
)

_ATTEMPTS: tuple[tuple[str, str], ...] = (
    (
        "attempt {0} belongs to task {1}, which does not exist",
        "SELECT a.id, a.task FROM attempt a LEFT JOIN task t ON t.id = a.task WHERE a.id BETWEEN ? AND ? AND t.id IS NULL",
    ),
    (
        "attempt {0} ended with an error of which there is no row",
        "SELECT a.id FROM attempt a LEFT JOIN error e ON e.id = a.error AND e.attempt = a.id "
        f"WHERE a.id BETWEEN ? AND ? AND (a.state = {int(Attempt.ERROR)} OR a.error IS NOT NULL) AND e.id IS NULL",
    ),
    (
        "attempt {0} is on card {1}, which does not exist or is of another site",
        "SELECT a.id, a.card FROM attempt a LEFT JOIN card c ON c.id = a.card WHERE a.id BETWEEN ? AND ? AND (c.id IS NULL OR c.site <> a.site)",
    ),
    (
        "attempt {0} is live in state {1} and has no agent",
        "SELECT a.id, a.state FROM attempt a WHERE a.id BETWEEN ? AND ? AND a.live = 1 AND a.state > 0 AND a.agent IS NULL",
    ),
)

_ERRORS = (
    (
        "error {0} is of attempt {1}, which does not exist or says otherwise",
        "SELECT e.id, e.attempt FROM error e LEFT JOIN attempt a ON a.id = e.attempt WHERE e.id BETWEEN ? AND ? AND (a.id IS NULL OR a.error IS NOT e.id)",
    ),
)

_FILES = (
    (
        "file {0} ({2}) of attempt {1}, which does not exist",
        "SELECT f.id, f.attempt, f.name FROM file f LEFT JOIN attempt a ON a.id = f.attempt WHERE f.id BETWEEN ? AND ? AND a.id IS NULL",
    ),
    (
        "file {0} ({2}) of attempt {1} is not lost or dropped, and that attempt is not accepted",
        "SELECT f.id, f.attempt, f.name FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task "
        f"WHERE f.id BETWEEN ? AND ? AND t.accepted IS NOT f.attempt AND f.state NOT IN ({int(File.LOST)}, {int(File.DROPPED)})",
    ),
    (
        "file {0} ({2}) of attempt {1} is neither home nor gone, and no site holds it",
        "SELECT f.id, f.attempt, f.name FROM file f WHERE f.id BETWEEN ? AND ? "
        f"AND f.state IN ({int(File.PRODUCED)}, {int(File.RELAYING)}, {int(File.COLLECTING)}) "
        "AND (f.live = 0 OR NOT EXISTS (SELECT 1 FROM replica r WHERE r.attempt = f.attempt AND r.dropping = 0))",
    ),
    (
        "file {0} ({2}) of attempt {1} is kept by its row or by its definition, not by both",
        "SELECT f.id, f.attempt, f.name FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task "
        "LEFT JOIN output_def o ON o.task_def = t.task_def AND o.idx = f.output WHERE f.id BETWEEN ? AND ? AND o.kept IS NOT f.kept",
    ),
)

_RELAYED = (
    (
        "file {0} ({2}) of attempt {1} is kept and relayed, or not kept and collected",
        "SELECT f.id, f.attempt, f.name FROM file f WHERE f.id BETWEEN ? AND ? "
        f"AND ((f.kept = 1 AND f.state = {int(File.RELAYING)}) OR (f.kept = 0 AND f.state = {int(File.COLLECTING)}))",
    ),
    (
        # its site may have lost it since
        "file {0} ({2}) of attempt {1} is in the relay cache, and nobody reads it any more",
        f"SELECT f.id, f.attempt, f.name FROM file f WHERE f.id BETWEEN ? AND ? AND f.kept = 0 AND f.state = {int(File.HOME)} "
        "AND (f.live = 0 OR EXISTS (SELECT 1 FROM replica r WHERE r.attempt = f.attempt AND r.dropping = 1))",
    ),
)

_SMALL: tuple[tuple[str, str], ...] = (
    (
        "dataset {0} is complete, and {1} of its tasks are neither ok nor cancelled",
        f"SELECT d.id, sum(y.n) FROM dataset d JOIN dataset_tally y ON y.dataset = d.id WHERE d.state = {int(Dataset.COMPLETE)} AND y.state NOT IN (4, 7) "
        "GROUP BY d.id HAVING sum(y.n) <> 0",
    ),
    (
        "dataset {0} is complete, and {1} of its files are not home",
        f"SELECT id, coming FROM dataset WHERE state = {int(Dataset.COMPLETE)} AND coming <> 0",
    ),
    (
        "dataset {0} is complete, and jobs {1} to {2} are held by `{3}`",
        "SELECT d.id, r.first, r.last, r.action FROM dataset d JOIN range r ON r.dataset = d.id "
        f"WHERE d.state = {int(Dataset.COMPLETE)} AND r.action IN ('suspend', 'release')",
    ),
    (
        "dataset {0} is complete, and group {2} of final task {1} was never made",
        f"SELECT d.id, f.task_def, f.grp FROM dataset d JOIN final_left f ON f.dataset = d.id WHERE d.state = {int(Dataset.COMPLETE)} AND f.made = 0",
    ),
    (
        "jobs {1} to {2} of dataset {0} are told to {3}, and lie outside of it or overlap another range",
        "SELECT r.dataset, r.first, r.last, r.action FROM range r JOIN dataset d ON d.id = r.dataset WHERE r.action <> 'priority' AND "
        "(r.first < 0 OR r.last >= d.jobs OR r.first > r.last OR EXISTS (SELECT 1 FROM range o WHERE o.dataset = r.dataset AND o.action <> 'priority' "
        "AND o.id <> r.id AND o.first <= r.last AND o.last >= r.first))",
    ),
    (
        "jobs {1} to {2} of dataset {0} are told to {3}, and some of them are rows",
        "SELECT r.dataset, r.first, r.last, r.action FROM range r WHERE r.action IN ('cancel', 'suspend', 'release') AND EXISTS "
        "(SELECT 1 FROM task t WHERE t.dataset = r.dataset AND t.job BETWEEN r.first AND r.last)",
    ),
    (
        "the orders to site {0} have serial {1}, after {2}",
        "SELECT s.name, o.serial, s.serial FROM outbox o JOIN site s ON s.id = o.site WHERE o.serial <> s.serial + 1",
    ),
    (
        "bytes {1} are to be dropped at site {0}, and a task still reads them there",
        "SELECT s.name, lower(hex(c.sha256)) FROM cached c JOIN site s ON s.id = c.site JOIN cached_for u ON u.site = c.site AND u.sha256 = c.sha256 "
        "WHERE c.dropping = 1",
    ),
    (
        "bytes {1} are sent to site {0}, and nobody reads them there",
        "SELECT s.name, lower(hex(c.sha256)) FROM sending c JOIN site s ON s.id = c.site WHERE NOT EXISTS "
        "(SELECT 1 FROM cached_for u WHERE u.site = c.site AND u.sha256 = c.sha256)",
    ),
    (
        "bytes {1} in the cache of site {0} stay for task {2}, which is done or does not exist",
        "SELECT s.name, lower(hex(u.sha256)), u.task FROM cached_for u JOIN site s ON s.id = u.site LEFT JOIN task t ON t.id = u.task "
        "WHERE u.task > 0 AND (t.id IS NULL OR t.state IN (4, 7))",
    ),
    ("pilot {0} is in state {1} and live is {2}", "SELECT id, state, live FROM pilot WHERE live <> (state <= 4)"),
    (
        "pilot {0} is for card {1}, which does not exist or is of another site",
        "SELECT p.id, p.card FROM pilot p LEFT JOIN card c ON c.id = p.card WHERE p.card IS NOT NULL AND (c.id IS NULL OR c.site <> p.site)",
    ),
    ("{1} pilots are for card {0}", "SELECT card, count(*) FROM pilot WHERE card IS NOT NULL GROUP BY card HAVING count(*) > 1"),
    ("agent {0} is in state {1} and live is {2}", "SELECT id, state, live FROM agent WHERE live <> (state <> 3)"),
    ("live_class has a row with {1} tasks of definition {0}", "SELECT task_def, n FROM live_class WHERE n <= 0 OR state > 3"),
    ("tally has a row with {1} tasks of definition {0}", "SELECT task_def, n FROM tally WHERE n < 0 OR state <= 3"),
    ("dataset_tally has {2} tasks of dataset {0} in state {1}", "SELECT dataset, state, n FROM dataset_tally WHERE n < 0"),
)


def check(ledger: Ledger, *, deep: bool = False) -> list[str]:
    """What is wrong with the ledger, a sentence each; empty when nothing is. ``deep`` also reads every file at home."""
    found: list[str] = []
    with ledger.read() as db:
        found += [f"SQLite: {row[0]}" for row in db.execute("PRAGMA integrity_check(20)").fetchall() if row[0] != "ok"]
        for part in (_tables, _counts, _jobs, _finals, _coming, _statistics, _work):
            found += part(db)
        files = [*_home_files(db), *_relayed(db)]
    # the files are looked at outside of the transaction: it may take long
    found += _limited(_missing(files, deep=deep))
    return found


def _limited(sentences: Iterator[str]) -> list[str]:
    shown: list[str] = []
    more = 0
    for sentence in sentences:
        if len(shown) < EACH:
            shown.append(sentence)
        else:
            more += 1
    if more:
        shown.append(f"and {more} more like the last one")
    return shown


def _chunks(db: sqlite3.Connection, table: str) -> Iterator[tuple[int, int]]:
    first, last = db.execute(f"SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table})").fetchone()
    if first is not None:
        for low in range(first, last + 1, CHUNK):
            yield low, low + CHUNK - 1


def _tables(db: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    for table, rules in (("task", _TASKS), ("attempt", _ATTEMPTS), ("error", _ERRORS), ("file", (*_FILES, *_RELAYED))):
        for sentence, query in rules:
            found += _limited(_said(db, sentence, query, _chunks(db, table)))
    for sentence, query in _SMALL:
        found += _limited(sentence.format(*row) for row in db.execute(query).fetchall())
    return found


def _said(db: sqlite3.Connection, sentence: str, query: str, chunks: Iterator[tuple[int, int]]) -> Found:
    for chunk in chunks:
        for row in db.execute(query, chunk).fetchall():
            yield sentence.format(*row)


def _width(db: sqlite3.Connection) -> dict[int, int]:
    """Number of task definitions of a job, by dataset."""
    return dict(db.execute("SELECT dataset, sum(final = 0) FROM task_def GROUP BY dataset").fetchall())


def _counts(db: sqlite3.Connection) -> list[str]:
    """The three kept counts, recounted in one pass over the tasks."""
    datasets: Counter[tuple[int, int]] = Counter()
    classes: Counter[tuple[int, ...]] = Counter()
    by_site: Counter[tuple[int, ...]] = Counter()
    for chunk in _chunks(db, "task"):
        for dataset, task_def, need, zone, site, state, n in db.execute(
            "SELECT dataset, task_def, CASE WHEN live THEN need END, CASE WHEN live THEN zone END, site, state, count(*) FROM task "
            "WHERE id BETWEEN ? AND ? GROUP BY 1, 2, 3, 4, 5, 6",
            chunk,
        ).fetchall():
            datasets[dataset, state] += n
            if state <= Task.PROCESSING:
                classes[dataset, task_def, need, zone, site, state] += n
            else:
                by_site[dataset, task_def, site, state] += n
    width = _width(db)
    for dataset, action, n in db.execute(
        "SELECT dataset, action, sum(last - first + 1) FROM range WHERE action IN ('cancel', 'suspend') GROUP BY dataset, action"
    ).fetchall():
        datasets[dataset, int(Task.CANCELLED if action == "cancel" else Task.SUSPENDED)] += n * width.get(dataset, 0)
    found: list[str] = []
    counters: tuple[tuple[str, str, str, Counter[tuple[int, ...]]], ...] = (
        ("dataset_tally", "dataset, state", "dataset {0}, state {1}", datasets),  # type: ignore[assignment]
        ("live_class", "dataset, task_def, need, zone, site, state", "dataset {0}, definition {1}, need {2}, zone {3}, site {4}, state {5}", classes),
        ("tally", "dataset, task_def, site, state", "dataset {0}, definition {1}, site {2}, state {3}", by_site),
    )
    for table, columns, words, counted in counters:
        kept = {tuple(row[:-1]): row[-1] for row in db.execute(f"SELECT {columns}, n FROM {table}").fetchall()}
        wrong = sorted(key for key in {*kept, *counted} if kept.get(key, 0) != counted.get(key, 0))
        found += _limited(f"{table} says {kept.get(key, 0)} of {words.format(*key)}; there are {counted.get(key, 0)}" for key in wrong)
    return found


def _jobs(db: sqlite3.Connection) -> list[str]:
    """Every job is whole, and is a row, unreleased, or held: never two of them, never none."""
    found: list[str] = []
    width = _width(db)
    for dataset, jobs, mark in db.execute("SELECT id, jobs, released FROM dataset").fetchall():
        rows, torn = db.execute(
            "SELECT count(*), coalesce(sum(n <> ?), 0) FROM (SELECT count(*) AS n FROM task WHERE dataset = ? AND job >= 0 GROUP BY job)",
            (width.get(dataset, 0), dataset),
        ).fetchone()
        if torn:
            found.append(f"{torn} jobs of dataset {dataset} have not one row for each of its {width.get(dataset, 0)} tasks")
        held = db.execute(
            "SELECT coalesce(sum(max(0, min(last, ? - 1) - first + 1)), 0) FROM range WHERE dataset = ? AND action IN ('cancel', 'suspend', 'release')",
            (mark, dataset),
        ).fetchone()[0]
        above = db.execute(
            "SELECT coalesce(sum(last - max(first, ?) + 1), 0) FROM range WHERE dataset = ? AND action = 'released' AND last >= ?", (mark, dataset, mark)
        ).fetchone()[0]
        if not 0 <= mark <= jobs or rows != mark - held + above:
            found.append(f"dataset {dataset} has {rows} jobs as rows; its mark {mark} and its ranges say {mark - held + above} of {jobs}")
    return found


def _finals(db: sqlite3.Connection) -> list[str]:
    """What final tasks wait for, recounted."""
    return _limited(_final_groups(db))


def _final_groups(db: sqlite3.Connection) -> Found:
    for final, dataset, kind, parents in db.execute(
        "SELECT d.id, d.dataset, d.final, (SELECT count(*) FROM edge e WHERE e.child = d.id) FROM task_def d WHERE d.final > 0"
    ).fetchall():
        joined, members = ("JOIN job_group g ON g.task_def = e.child AND g.job = t.job", "g.grp") if kind == 2 else ("", "0 * e.child")
        done: dict[int, tuple[int, int]] = {
            row[0]: (row[1], row[2])
            for row in db.execute(
                f"SELECT {members}, count(*), sum(t.state = 4) FROM edge e JOIN task t ON t.dataset = ? AND t.task_def = e.parent AND t.job >= 0 {joined} "
                f"WHERE e.child = ? AND t.state IN (4, 7) GROUP BY {members}",
                (dataset, final),
            ).fetchall()
        }
        if kind == 2:
            size = dict(db.execute("SELECT grp, count(*) FROM job_group WHERE task_def = ? GROUP BY grp", (final,)).fetchall())
            gone = dict(
                db.execute(
                    "SELECT g.grp, count(*) FROM range r JOIN job_group g ON g.task_def = ? AND g.job BETWEEN r.first AND r.last "
                    "WHERE r.dataset = ? AND r.action = 'cancel' GROUP BY g.grp",
                    (final, dataset),
                ).fetchall()
            )
        else:
            size = {0: db.execute("SELECT jobs FROM dataset WHERE id = ?", (dataset,)).fetchone()[0]}
            gone = {0: db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE dataset = ? AND action = 'cancel'", (dataset,)).fetchone()[0]}
        rows = db.execute(
            "SELECT f.grp, f.members, f.left, f.oks, f.made, t.id FROM final_left f LEFT JOIN task t ON t.dataset = f.dataset AND t.job = -1 - f.grp "
            "AND t.task_def = f.task_def WHERE f.dataset = ? AND f.task_def = ?",
            (dataset, final),
        ).fetchall()
        for group, jobs, left, oks, made, task in rows:
            ended, well = done.get(group, (0, 0))
            real = (size.get(group, 0), size.get(group, 0) * parents - ended - gone.get(group, 0) * parents, well)
            if (jobs, left, oks) != real:
                where = f"group {group} of final task {final} (dataset {dataset})"
                yield f"{where} says {jobs} jobs, {left} left, {oks} ok; there are {real[0]}, {real[1]}, {real[2]}"
            if bool(made) != (task is not None):
                yield f"group {group} of final task {final} (dataset {dataset}) says made {made}, and its row is {task}"


def _coming(db: sqlite3.Connection) -> list[str]:
    counted: Counter[int] = Counter()
    for chunk in _chunks(db, "file"):
        for dataset, n in db.execute(
            "SELECT t.dataset, count(*) FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task AND t.accepted = a.id "
            f"WHERE f.id BETWEEN ? AND ? AND f.kept = 1 AND f.state IN ({int(File.PRODUCED)}, {int(File.RELAYING)}, {int(File.COLLECTING)}) GROUP BY t.dataset",
            chunk,
        ).fetchall():
            counted[dataset] += n
    kept = db.execute("SELECT id, coming FROM dataset").fetchall()
    return [f"dataset {one} says that {n} files are coming home; there are {counted[one]}" for one, n in kept if n != counted[one]]


def _statistics(db: sqlite3.Connection) -> list[str]:
    """Summaries against what accepted attempts said; those that wait for their recomputation are left out."""
    real: dict[tuple[int, int, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0, math.inf, -math.inf])
    for chunk in _chunks(db, "attempt"):
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
    return _limited(_summaries(kept, real, stale))


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


def _work(db: sqlite3.Connection) -> list[str]:
    """What attempts made, as it is kept and as their rows say."""
    real: Counter[tuple[int, ...]] = Counter()
    for chunk in _chunks(db, "attempt"):
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
    return _limited(
        f"definition {key[1]} (dataset {key[0]}) has {kept[key]} {words[key[3]]} at site {key[2]}; its rows say {real[key]}"
        for key in sorted({*kept, *real})
        if kept[key] != real[key]
    )


def _home_files(db: sqlite3.Connection) -> Iterator[tuple[int, Path, int, bytes]]:
    for chunk in _chunks(db, "file"):
        for number, name, size, digest, job, outputs, jobs in db.execute(
            "SELECT f.id, f.name, f.bytes, f.sha256, t.job, d.outputs, d.jobs FROM file f JOIN attempt a ON a.id = f.attempt "
            "JOIN task t ON t.id = a.task JOIN dataset d ON d.id = t.dataset "
            f"WHERE f.id BETWEEN ? AND ? AND f.kept = 1 AND f.state = {int(File.HOME)} AND d.deleted IS NULL",
            chunk,
        ).fetchall():
            yield number, home_path(outputs, jobs, job, name), size, digest


def _relayed(db: sqlite3.Connection) -> Iterator[tuple[int, Path, int, bytes]]:
    """What lies in the relay cache; a ledger that no engine had in hand yet does not know where that is."""
    row = db.execute("SELECT value FROM meta WHERE key = 'relay'").fetchone()
    for chunk in _chunks(db, "file") if row is not None else ():
        for number, size, digest in db.execute(
            f"SELECT id, bytes, sha256 FROM file WHERE id BETWEEN ? AND ? AND kept = 0 AND state = {int(File.HOME)} AND live = 1", chunk
        ).fetchall():
            path = relay_path(Path(row[0]), number, digest)
            if path.exists():  # one that is gone is brought again
                yield number, path, size, digest


def _missing(files: list[tuple[int, Path, int, bytes]], *, deep: bool) -> Found:
    for number, path, size, digest in files:
        try:
            found = path.stat().st_size
            if found != size:
                yield f"file {number} is home as {path}, with {found} bytes instead of {size}"
            elif deep and digest_of(path) != digest.hex():
                yield f"file {number} is home as {path}, with another sha256 than {digest.hex()}"
        except OSError as error:
            yield f"file {number} is home as {path}, which cannot be read: {error.strerror}"
