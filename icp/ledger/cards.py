"""Cards and the outbox: which waiting tasks go into them, their attempts, and orders that are sent until answered (hides the rows)."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

from icp.ledger.fold import Fold
from icp.ledger.rows import TASK_COLUMNS, AttemptRow, TaskRow
from icp.ledger.sites import observed_of
from icp.states import Attempt, Task

__all__ = [
    "InputFile",
    "blob",
    "blob_bytes",
    "input_files",
    "make_attempts",
    "make_card",
    "members",
    "old_logs",
    "outbox_of",
    "put_outbox",
    "recall",
    "replica_at",
    "stops",
    "waiting_tasks",
    "without_need",
]


def waiting_tasks(fold: Fold, dataset: int, task_def: int, need: int, zone: int, now: float, n: int) -> list[TaskRow]:
    """Up to ``n`` waiting tasks of a class whose back-off is over, the highest priority first, taken into the fold."""
    rows = fold.db.execute(
        f"SELECT {TASK_COLUMNS} FROM task INDEXED BY task_live WHERE live = 1 AND dataset = ? AND task_def = ? AND need = ? AND state = ? "
        "AND zone = ? AND (not_before IS NULL OR not_before <= ?) ORDER BY priority DESC, job LIMIT ?",
        (dataset, task_def, need, int(Task.WAITING), zone, now, n),
    ).fetchall()
    fold.take(map(TaskRow, rows))
    return [fold.tasks[row[0]] for row in rows if fold.tasks[row[0]].state == Task.WAITING]


def make_card(db: sqlite3.Connection, key: bytes, site: int, need: int, priority: int, now: float) -> int:
    number = db.execute(
        "INSERT INTO card (key, site, need, priority, made) VALUES (?, ?, ?, ?, ?)", (key, site, need, priority, now)
    ).lastrowid
    assert number is not None
    return number


def make_attempts(fold: Fold, card: int, site: int, entries: Sequence[tuple[TaskRow, bytes, bytes]]) -> list[AttemptRow]:
    """Attempts of these (task, id, passkey) on one card; each task becomes queued at the site."""
    observed = observed_of(fold.db, site)
    made: list[AttemptRow] = []
    for task, key, passkey in entries:
        tries = int(fold.db.execute("SELECT count(*) FROM attempt WHERE task = ?", (task.id,)).fetchone()[0])
        number = fold.db.execute(
            "INSERT INTO attempt (key, passkey, task, try, site, card, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, passkey, task.id, tries + 1, site, card, observed),
        ).lastrowid
        row = AttemptRow((number, key, passkey, task.id, tries + 1, site, card, None, int(Attempt.QUEUED), 0, 0, observed, *[None] * 13))
        fold.take_attempt(row)
        fold.task_event(task, "carded")
        task.site, task.not_before = site, None
        made.append(row)
    return made


InputFile = tuple[str, bytes, int, int, int, int]
"""(name, sha256, file id, file state, bytes, kept) of an accepted parent's output."""


def input_files(db: sqlite3.Connection, attempt: int, output: int) -> list[InputFile]:
    """What an accepted attempt made of one declared output: several where it is a pattern."""
    return db.execute(
        "SELECT name, sha256, id, state, bytes, kept FROM file WHERE attempt = ? AND output = ? ORDER BY name", (attempt, output)
    ).fetchall()


def members(db: sqlite3.Connection, dataset: int, parent: int, final: int, final_def: int, group: int) -> list[tuple[int, int]]:
    """(job, accepted attempt) of a parent's tasks in a final task's group, in the order of jobs."""
    query = "SELECT t.job, t.accepted FROM task t INDEXED BY task_job WHERE t.dataset = ? AND t.task_def = ? AND t.job >= 0 AND t.accepted IS NOT NULL"
    values: tuple[int, ...] = (dataset, parent)
    if final == 2:
        query = (
            "SELECT t.job, t.accepted FROM job_group g JOIN task t ON t.dataset = ? AND t.job = g.job AND t.task_def = ? "
            "WHERE g.task_def = ? AND g.grp = ? AND t.accepted IS NOT NULL"
        )
        values = (dataset, parent, final_def, group)
    return db.execute(query + " ORDER BY t.job", values).fetchall()


def stops(fold: Fold, site: int, limit: int = 5000) -> tuple[list[str], list[str]]:
    """(cards to recall, attempts to cancel) at a site, marked as sent.

    A card is taken whole, so one in which some attempt is still wanted is not recalled: the unwanted ones are cancelled in it.
    """
    db = fold.db
    rows = db.execute(
        "SELECT a.id, a.key, a.state, a.stop, a.card, c.key FROM attempt a JOIN card c ON c.id = a.card "
        "WHERE a.live = 1 AND a.stop IN (1, 2) AND a.site = ? LIMIT ?",
        (site, limit),
    ).fetchall()
    recall: dict[int, str] = {}
    cancel: list[str] = []
    wanted: dict[int, bool] = {}
    for number, key, state, stop, card, card_key in rows:
        if card not in wanted:
            wanted[card] = bool(db.execute("SELECT 1 FROM attempt WHERE card = ? AND live = 1 AND stop = 0 LIMIT 1", (card,)).fetchone())
        if state == Attempt.QUEUED and not wanted[card]:
            recall[card] = card_key.hex()
        if stop == 2:
            cancel.append(key.hex())
        db.execute("UPDATE attempt SET stop = stop + 2 WHERE id = ?", (number,))
    return list(recall.values()), cancel


def recall(db: sqlite3.Connection, site: int, task_def: int, need: int, n: int) -> None:
    """Up to ``n`` attempts of a class that wait at a site shall come back: others have room for them."""
    db.execute(
        "UPDATE attempt SET stop = 1 WHERE id IN (SELECT a.id FROM attempt a INDEXED BY attempt_live JOIN task t ON t.id = a.task "
        "WHERE a.live = 1 AND a.site = ? AND a.state = ? AND a.stop = 0 AND t.task_def = ? AND t.need = ? LIMIT ?)",
        (site, int(Attempt.QUEUED), task_def, need, n),
    )


def outbox_of(db: sqlite3.Connection, site: int) -> tuple[int, bytes, str] | None:
    """(serial, bytes, sha256) of orders that are not answered yet."""
    row = db.execute("SELECT serial, body, digest FROM outbox WHERE site = ?", (site,)).fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]), str(row[2]))


def put_outbox(db: sqlite3.Connection, site: int, frames: Iterable[bytes], now: float) -> int:
    """Write orders down before they are sent; the serial they got."""
    body = b"".join(frames)
    serial = int(db.execute("SELECT serial FROM site WHERE id = ?", (site,)).fetchone()[0]) + 1
    db.execute(
        "INSERT INTO outbox (site, serial, body, digest, made) VALUES (?, ?, ?, ?, ?)",
        (site, serial, body, hashlib.sha256(body).hexdigest(), now),
    )
    return serial


def replica_at(db: sqlite3.Connection, attempt: int, site: int) -> bytes | None:
    """The id of an attempt whose outputs this site still holds."""
    row = db.execute(
        "SELECT a.key FROM attempt a JOIN replica r ON r.attempt = a.id AND r.site = ? AND r.dropping = 0 WHERE a.id = ?", (site, attempt)
    ).fetchone()
    return None if row is None else bytes(row[0])


def blob(db: sqlite3.Connection, digest: bytes) -> bytes:
    """Bytes that the ledger keeps: files shipped with a dataset."""
    return bytes(db.execute("SELECT data FROM blob WHERE sha256 = ?", (digest,)).fetchone()[0])


def blob_bytes(db: sqlite3.Connection, digest: bytes) -> int:
    """How many they are."""
    return int(db.execute("SELECT bytes FROM blob WHERE sha256 = ?", (digest,)).fetchone()[0])


CARDS_AT_ONCE = 5000


def old_logs(db: sqlite3.Connection, site: int, before: float) -> list[str]:
    """Cards made before this moment whose logs the site shall remove now; each is told once."""
    mark = int(db.execute("SELECT logs FROM site WHERE id = ?", (site,)).fetchone()[0])
    rows = db.execute(
        "SELECT c.id, c.key, c.site, c.made, EXISTS (SELECT 1 FROM attempt a WHERE a.card = c.id AND a.live = 1) FROM card c "
        "WHERE c.id > ? AND c.id <= ? ORDER BY c.id",
        (mark, mark + CARDS_AT_ONCE),
    ).fetchall()
    old = []
    for number, key, where, made, live in rows:
        if made >= before or (live and where == site):
            break
        mark = number
        if where == site:
            old.append(key.hex())
    db.execute("UPDATE site SET logs = ? WHERE id = ? AND logs < ?", (mark, site, mark))
    return old


def without_need(db: sqlite3.Connection, dataset: int, task_def: int, limit: int = 2000) -> list[int]:
    """Live tasks whose need has to be rendered anew."""
    rows = db.execute(
        "SELECT id FROM task INDEXED BY task_live WHERE live = 1 AND dataset = ? AND task_def = ? AND need = 0 LIMIT ?", (dataset, task_def, limit)
    ).fetchall()
    return [int(row[0]) for row in rows]
