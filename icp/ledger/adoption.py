"""What a ledger does to its rows when it takes a spool over (hides epochs, replay positions and attempts made again from cards)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from icp.ledger import ranges
from icp.ledger.cards import make_card, put_outbox
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.fold import Fold
from icp.ledger.pilots import STRANGER, make_pilot
from icp.ledger.rows import read_attempts
from icp.model.plan import PilotSpec
from icp.pilot.framing import frame
from icp.states import Attempt, Task

__all__ = ["forget_unseen", "order_away", "pilot_again", "raise_epoch", "remake"]


def raise_epoch(db: sqlite3.Connection, site: int) -> tuple[int, int]:
    """The next epoch of a site's spool: orders that were not answered are forgotten, all journals will be read anew. (serial, epoch)"""
    db.execute("UPDATE site SET epoch = epoch + 1, unreachable = NULL, login = NULL, reason = NULL WHERE id = ?", (site,))
    db.execute("DELETE FROM outbox WHERE site = ?", (site,))
    db.execute("DELETE FROM cached WHERE site = ?", (site,))
    db.execute("UPDATE stream SET segment = 0, offset = 0, seq = 0 WHERE agent IN (SELECT id FROM agent WHERE site = ?)", (site,))
    # orders that may have been forgotten are given again
    db.execute("UPDATE pilot SET bag = 2 WHERE site = ? AND bag = 3", (site,))
    db.execute("UPDATE attempt SET stop = stop - 2 WHERE site = ? AND live = 1 AND stop IN (3, 4)", (site,))
    db.execute("UPDATE agent SET fence = 1 WHERE site = ? AND live = 1 AND fence = 2 AND state IN (0, 1)", (site,))
    row = db.execute("SELECT serial, epoch FROM site WHERE id = ?", (site,)).fetchone()
    return int(row[0]), int(row[1])


def remake(
    ledger: Ledger, definitions: Definitions, site: int, card: dict[str, Any], rank: int, now: float, release: Callable[[int, int], None]
) -> int | None:
    """Attempts of a card that the ledger lacks are made again from its content; how many, None if nothing of it is wanted here: the dataset is unknown,
    or a person cancelled or suspended those jobs before they were rows.

    An attempt of a task that has an accepted one already is made void, so that it is stopped and cannot count.
    """
    db = ledger.db
    key = bytes.fromhex(card["card"])
    row = db.execute("SELECT id FROM card WHERE key = ? AND site = ?", (key, site)).fetchone()
    missing = [
        one for one in card["attempts"] if db.execute("SELECT 1 FROM attempt WHERE key = ?", (bytes.fromhex(one["a"]),)).fetchone() is None
    ]
    if not missing:
        return 0
    dataset = db.execute("SELECT id, jobs FROM dataset WHERE uuid = ? AND deleted IS NULL", (missing[0]["dataset"],)).fetchone()
    if dataset is None:
        return None
    body = db.execute("SELECT id FROM need WHERE key = ?", (card["need"],)).fetchone()
    need = int(body[0]) if body is not None else _some_need(db)
    number = int(row[0]) if row is not None else make_card(db, key, site, need, 5000 - rank, now)
    made = 0
    graph = definitions.graph(int(dataset[0]))
    for one in missing:
        definition = graph.by_name(one["task"])
        if definition is None:
            continue
        job = int(one["job"])
        status = ranges.segments(db, graph.dataset, job, job)[0][2] if job >= 0 else "rows"
        if status in ("cancel", "suspend"):
            continue
        if status != "rows":
            release(graph.dataset, job)
        task = db.execute(
            "SELECT id, accepted, state FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (graph.dataset, job, definition.id)
        ).fetchone()
        if task is None:
            continue  # a final task that is not due here
        fold = Fold(ledger, definitions, now)
        fold.load_tasks([task[0]])
        live = any(row.live for row in fold.live_of[task[0]])
        void = task[1] is not None or task[2] in (Task.CANCELLED, Task.FAILED) or live
        db.execute(
            "INSERT INTO attempt (key, passkey, task, try, site, card, void, stop, since) "
            "SELECT ?, ?, ?, ?, ?, ?, ?, ?, observed FROM site WHERE id = ?",
            (bytes.fromhex(one["a"]), bytes.fromhex(one["k"]), task[0], int(one["try"]), site, number, int(void), 2 if void else 0, site),
        )
        fold = Fold(ledger, definitions, now)
        fold.load_tasks([task[0]])
        row_of = fold.tasks[task[0]]
        if not void and row_of.state in (Task.IDLE, Task.WAITING):
            fold.task_event(row_of, "carded")
            row_of.site = site
        fold.flush()
        made += 1
    return made or None


def pilot_again(db: sqlite3.Connection, site: int, key: bytes, card: bytes | None, told: Any, now: float) -> bool:
    """A pilot that the ledger lacks, whose card went with its job, gets a row: what it brings back will be gathered, or was. Where the card is of nothing
    that is known here, the row is a stranger's: its job ends. ``told``: its ``pilot.json``. False if there is a row.
    """
    if db.execute("SELECT 1 FROM pilot WHERE key = ?", (key,)).fetchone() is not None:
        return False
    row = None if card is None else db.execute("SELECT id FROM card WHERE key = ? AND site = ?", (card, site)).fetchone()
    asked = {name: told[name] for name in ("cpus", "memory", "gpus", "walltime") if type(told.get(name)) is int} if isinstance(told, dict) else {}
    number = make_pilot(db, site, key, PilotSpec(**asked), now, card=None if row is None else int(row[0]), bag=row is not None)
    if row is None:
        db.execute("UPDATE pilot SET reason = ? WHERE id = ?", (STRANGER, number))
    return True


def _some_need(db: sqlite3.Connection) -> int:
    """A card whose need was interned after the backup: any number will do, its name at the site says what it needs."""
    row = db.execute("SELECT min(id) FROM need").fetchone()
    return int(row[0] or 0)


def order_away(ledger: Ledger, site: int, cards: list[str], stored: list[str]) -> None:
    """Cards of datasets that this ledger does not know are recalled with the next exchange; what attempts stored that it does not know is removed."""
    unknown = [
        one for one in stored if not ledger.db.execute("SELECT 1 FROM attempt WHERE key = ?", (_key(one),)).fetchone()
    ]
    orders = [frame("recall", {"card": card}) for card in cards] + [frame("drop", {"attempt": one}) for one in unknown if _key(one)]
    if orders:
        put_outbox(ledger.db, site, orders, 0.0)


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def forget_unseen(fold: Fold, site: int, seen: set[bytes]) -> int:
    """Attempts that wait at the site by this ledger, but whose card is nowhere there: they never arrived, and go again."""
    rows = fold.db.execute(
        "SELECT a.id, c.key FROM attempt a JOIN card c ON c.id = a.card WHERE a.live = 1 AND a.site = ? AND a.state = ?",
        (site, int(Attempt.QUEUED)),
    ).fetchall()
    gone = [number for number, key in rows if bytes(key) not in seen]
    fold.load(read_attempts(fold.db, "id", gone))
    for number in gone:
        if fold.attempts[number].live:
            fold.ended(fold.attempts[number], "withdrawn")
    return len(gone)

