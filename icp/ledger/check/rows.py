"""Rules that rows keep with each other, a query each (hides the queries)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from icp.ledger.check.chunks import Found, chunks, limited
from icp.states import Attempt, Dataset, File

__all__ = ["tables"]

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


def tables(db: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    for table, rules in (("task", _TASKS), ("attempt", _ATTEMPTS), ("error", _ERRORS), ("file", (*_FILES, *_RELAYED))):
        for sentence, query in rules:
            found += limited(_said(db, sentence, query, chunks(db, table)))
    for sentence, query in _SMALL:
        found += limited(sentence.format(*row) for row in db.execute(query).fetchall())
    return found


def _said(db: sqlite3.Connection, sentence: str, query: str, chunks: Iterator[tuple[int, int]]) -> Found:
    for chunk in chunks:
        for row in db.execute(query, chunk).fetchall():
            yield sentence.format(*row)
