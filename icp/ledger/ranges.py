"""Which jobs of a dataset are rows, and what was said of those that are not (hides the high-water mark and its ranges)."""

from __future__ import annotations

import sqlite3

__all__ = ["NO_ROWS", "Span", "held", "mark_rows", "priorities", "priority_of", "segments", "set_priority", "set_status", "take"]

Span = tuple[int, int, str]
"""(first job, last job, status); the status is ``rows``, ``none`` (not released yet), ``cancel``, ``suspend`` or ``release``."""

NO_ROWS = ("none", "cancel", "suspend", "release")


def _ranges(db: sqlite3.Connection, dataset: int) -> list[tuple[int, int, int, str]]:
    return db.execute(
        "SELECT id, first, last, action FROM range WHERE dataset = ? AND action <> 'priority' ORDER BY first", (dataset,)
    ).fetchall()


def segments(db: sqlite3.Connection, dataset: int, first: int, last: int) -> list[Span]:
    """The jobs first..last cut where their status changes."""
    mark = int(db.execute("SELECT released FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    spans: list[Span] = []

    def plain(low: int, high: int) -> None:
        if low <= min(high, mark - 1):
            spans.append((low, min(high, mark - 1), "rows"))
        if max(low, mark) <= high:
            spans.append((max(low, mark), high, "none"))

    at = first
    for _, low, high, action in _ranges(db, dataset):
        if high < first or low > last:
            continue
        if at < low:
            plain(at, low - 1)
        at = max(at, low)
        spans.append((at, min(high, last), "rows" if action == "released" else action))
        at = min(high, last) + 1
    if at <= last:
        plain(at, last)
    return spans


def set_status(db: sqlite3.Connection, dataset: int, first: int, last: int, action: str | None) -> None:
    """Jobs first..last (none of them rows) get this status; None: they are simply not released yet."""
    for number, low, high, old in _ranges(db, dataset):
        if high < first or low > last:
            continue
        db.execute("DELETE FROM range WHERE id = ?", (number,))
        if low < first:
            _insert(db, dataset, low, first - 1, old)
        if high > last:
            _insert(db, dataset, last + 1, high, old)
    if action is not None:
        _insert(db, dataset, first, last, action)


def _insert(db: sqlite3.Connection, dataset: int, first: int, last: int, action: str, value: int = 0) -> None:
    db.execute("INSERT INTO range (dataset, first, last, action, value) VALUES (?, ?, ?, ?, ?)", (dataset, first, last, action, value))


def held(db: sqlite3.Connection, dataset: int, action: str) -> int:
    """How many jobs without rows have this status."""
    row = db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE dataset = ? AND action = ?", (dataset, action)).fetchone()
    return int(row[0])


def set_priority(db: sqlite3.Connection, dataset: int, first: int, last: int, value: int) -> None:
    """Jobs first..last that are not rows yet will have this priority; the last word counts, and what it covers goes."""
    earlier = db.execute(
        "SELECT id, first, last, value FROM range WHERE dataset = ? AND action = 'priority' AND first <= ? AND last >= ?", (dataset, last, first)
    ).fetchall()
    for number, low, high, old in earlier:
        db.execute("DELETE FROM range WHERE id = ?", (number,))
        if low < first:
            _insert(db, dataset, low, first - 1, "priority", old)
        if high > last:
            _insert(db, dataset, last + 1, high, "priority", old)
    _insert(db, dataset, first, last, "priority", value)


def priorities(db: sqlite3.Connection, dataset: int) -> list[tuple[int, int, int]]:
    """(first, last, value), the newest first."""
    return db.execute(
        "SELECT first, last, value FROM range WHERE dataset = ? AND action = 'priority' ORDER BY id DESC", (dataset,)
    ).fetchall()


def priority_of(said: list[tuple[int, int, int]], job: int) -> int:
    return next((value for first, last, value in said if first <= job <= last), 0)


def mark_rows(db: sqlite3.Connection, dataset: int, job: int) -> None:
    """One job becomes rows out of its turn; the caller makes them."""
    mark = int(db.execute("SELECT released FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    set_status(db, dataset, job, job, "released" if job >= mark else None)


def take(db: sqlite3.Connection, dataset: int, limit: int, below: int) -> list[int]:
    """Choose up to ``limit`` jobs to become rows now, all < ``below``, and move the mark; the caller makes the rows.

    Jobs in ``release`` ranges come first, those of the higher priority before the others, then the mark's.
    """
    jobs: list[int] = []
    said = priorities(db, dataset)
    mark = int(db.execute("SELECT released FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    waiting = [(low, high) for _, low, high, action in _ranges(db, dataset) if action == "release" and low < below]
    for low, high in sorted(waiting, key=lambda span: (-priority_of(said, span[0]), span[0])):
        end = min(high, below - 1, low + limit - len(jobs) - 1)
        if end < low:
            break
        jobs += range(low, end + 1)
        set_status(db, dataset, low, end, None)
        if end >= mark:
            _insert(db, dataset, max(low, mark), end, "released")
    spans = [(low, high, action) for _, low, high, action in _ranges(db, dataset) if high >= mark]
    start = mark
    while mark < below:
        inside = next((span for span in spans if span[0] <= mark <= span[1]), None)
        if inside is not None:
            mark = inside[1] + 1
            continue
        room = limit - len(jobs)
        if room <= 0:
            break
        stop = min([low for low, _, _ in spans if low > mark] + [below, mark + room])
        jobs += range(mark, stop)
        mark = stop
    if mark != start:
        db.execute("UPDATE dataset SET released = ? WHERE id = ?", (mark, dataset))
        # what the mark passed and was rows already is now below it, as all rows are
        db.execute("DELETE FROM range WHERE dataset = ? AND action = 'released' AND last < ?", (dataset, mark))
    return jobs
