"""Counts that are kept: tasks by state, jobs and their ranges, what final tasks wait for, files on their way, recounted (hides the recounts)."""

from __future__ import annotations

import sqlite3
from collections import Counter

from icp.ledger.check.chunks import Found, chunks, limited
from icp.states import File, Task

__all__ = ["coming", "counts", "finals", "jobs"]


def _width(db: sqlite3.Connection) -> dict[int, int]:
    """Number of task definitions of a job, by dataset."""
    return dict(db.execute("SELECT dataset, sum(final = 0) FROM task_def GROUP BY dataset").fetchall())


def counts(db: sqlite3.Connection) -> list[str]:
    """The three kept counts, recounted in one pass over the tasks."""
    datasets: Counter[tuple[int, int]] = Counter()
    classes: Counter[tuple[int, ...]] = Counter()
    by_site: Counter[tuple[int, ...]] = Counter()
    for chunk in chunks(db, "task"):
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
        found += limited(f"{table} says {kept.get(key, 0)} of {words.format(*key)}; there are {counted.get(key, 0)}" for key in wrong)
    return found


def jobs(db: sqlite3.Connection) -> list[str]:
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


def finals(db: sqlite3.Connection) -> list[str]:
    """What final tasks wait for, recounted."""
    return limited(_final_groups(db))


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


def coming(db: sqlite3.Connection) -> list[str]:
    counted: Counter[int] = Counter()
    for chunk in chunks(db, "file"):
        for dataset, n in db.execute(
            "SELECT t.dataset, count(*) FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task AND t.accepted = a.id "
            f"WHERE f.id BETWEEN ? AND ? AND f.kept = 1 AND f.state IN ({int(File.PRODUCED)}, {int(File.RELAYING)}, {int(File.COLLECTING)}) GROUP BY t.dataset",
            chunk,
        ).fetchall():
            counted[dataset] += n
    kept = db.execute("SELECT id, coming FROM dataset").fetchall()
    return [f"dataset {one} says that {n} files are coming home; there are {counted[one]}" for one, n in kept if n != counted[one]]
