"""What lies in the caches of sites: packs and inputs by sha256, who reads them there, and when they can go (hides the rows)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from icp.ledger.rows import chunks
from icp.states import Dataset

__all__ = ["arrived", "drops", "here", "left", "over", "read_by", "release", "send", "sending", "sent", "sent_for", "unsendable"]


def here(db: sqlite3.Connection, site: int, digest: bytes) -> bool:
    """Whether a site has these bytes, or gets them with orders that are written down; what was to be dropped there stays."""
    row = db.execute("SELECT dropping FROM cached WHERE site = ? AND sha256 = ?", (site, digest)).fetchone()
    if row is not None and row[0]:
        db.execute("UPDATE cached SET dropping = 0 WHERE site = ? AND sha256 = ?", (site, digest))
    return row is not None


def sent(db: sqlite3.Connection, site: int, digest: bytes) -> None:
    """These bytes are in the outbox of the same transaction, or were verified at the site."""
    db.execute("INSERT INTO cached (site, sha256) VALUES (?, ?) ON CONFLICT (site, sha256) DO UPDATE SET dropping = 0", (site, digest))
    db.execute("DELETE FROM sending WHERE site = ? AND sha256 = ?", (site, digest))


def read_by(db: sqlite3.Connection, task: int, site: int, digest: bytes) -> None:
    """A task (or -dataset, for its pack) will read these bytes there: they stay until it is done."""
    db.execute("INSERT OR IGNORE INTO cached_for VALUES (?, ?, ?)", (task, site, digest))


def send(db: sqlite3.Connection, site: int, digest: bytes, size: int, path: Path | None) -> None:
    """Bytes too many for an outbox are wanted at a site; ``path`` None: a pack of the ledger's."""
    db.execute("INSERT OR REPLACE INTO sending VALUES (?, ?, ?, ?)", (site, digest, size, None if path is None else str(path)))


def sending(db: sqlite3.Connection, site: int) -> list[tuple[bytes, int, Path | None]]:
    """(sha256, bytes, path) of what is on its way in sessions of its own."""
    rows = db.execute("SELECT sha256, bytes, path FROM sending WHERE site = ? ORDER BY bytes", (site,)).fetchall()
    return [(row[0], row[1], None if row[2] is None else Path(row[2])) for row in rows]


def arrived(db: sqlite3.Connection, site: int, digest: bytes) -> None:
    """The site verified these bytes; if nobody wants them any more, they go again."""
    sent(db, site, digest)
    if not _read(db, site, digest):
        db.execute("UPDATE cached SET dropping = 1 WHERE site = ? AND sha256 = ?", (site, digest))


def unsendable(db: sqlite3.Connection, site: int, digest: bytes) -> None:
    """What was to be sent is not at home any more: whoever needs it asks anew."""
    db.execute("DELETE FROM sending WHERE site = ? AND sha256 = ?", (site, digest))


def _read(db: sqlite3.Connection, site: int, digest: bytes) -> bool:
    return db.execute("SELECT 1 FROM cached_for WHERE site = ? AND sha256 = ? LIMIT 1", (site, digest)).fetchone() is not None


def release(db: sqlite3.Connection, tasks: Iterable[int]) -> None:
    """These tasks (or -dataset) are done: what nobody else reads is dropped."""
    for part in chunks(tasks):
        marks = ",".join("?" * len(part))
        rows = set(db.execute(f"SELECT site, sha256 FROM cached_for WHERE task IN ({marks})", part).fetchall())
        if rows:
            db.execute(f"DELETE FROM cached_for WHERE task IN ({marks})", part)
        for site, digest in rows:
            if not _read(db, site, digest):
                db.execute("DELETE FROM sending WHERE site = ? AND sha256 = ?", (site, digest))
                db.execute("INSERT INTO cached VALUES (?, ?, 1) ON CONFLICT (site, sha256) DO UPDATE SET dropping = 1", (site, digest))


def over(db: sqlite3.Connection) -> None:
    """Packs of datasets that are complete or cancelled, and of which nothing is live at a site, can go from there."""
    rows = db.execute(
        "SELECT DISTINCT u.task FROM cached_for u JOIN dataset d ON d.id = -u.task WHERE u.task < 0 AND d.state IN (?, ?) AND NOT EXISTS "
        "(SELECT 1 FROM attempt a JOIN task t ON t.id = a.task WHERE a.live = 1 AND a.site = u.site AND t.dataset = d.id)",
        (int(Dataset.COMPLETE), int(Dataset.CANCELLED)),
    ).fetchall()
    release(db, [row[0] for row in rows])


def drops(db: sqlite3.Connection, site: int, limit: int) -> list[bytes]:
    """What the site shall remove; the caller puts the order into the outbox of the same transaction."""
    rows = db.execute("SELECT sha256 FROM cached INDEXED BY cached_dropping WHERE dropping = 1 AND site = ? LIMIT ?", (site, limit)).fetchall()
    db.executemany("DELETE FROM cached WHERE site = ? AND sha256 = ?", [(site, row[0]) for row in rows])
    return [row[0] for row in rows]


def left(db: sqlite3.Connection) -> bool:
    """Whether some site still holds packs of datasets that are over, or what it was not told to remove yet."""
    queries = (
        "SELECT 1 FROM cached_for WHERE task < 0 LIMIT 1",
        "SELECT 1 FROM replica WHERE dropping = 1 LIMIT 1",
        "SELECT 1 FROM cached WHERE dropping = 1 LIMIT 1",
    )
    return any(db.execute(query).fetchone() for query in queries)


def sent_for(db: sqlite3.Connection, task: int) -> list[tuple[int, str]]:
    """(bytes, site) of large inputs of a task that are on their way there."""
    return db.execute(
        "SELECT c.bytes, s.name FROM cached_for u JOIN sending c ON c.site = u.site AND c.sha256 = u.sha256 JOIN site s ON s.id = u.site WHERE u.task = ?",
        (task,),
    ).fetchall()
