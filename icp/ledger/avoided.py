"""Hosts on which a task failed, where the host may be to blame: it is kept away from them for a while (hides how attempts tell it)."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from icp.ledger.snapshot import read_needs
from icp.model.plan import Policy
from icp.states import Attempt, Task

if TYPE_CHECKING:
    from icp.ledger.fold import Fold

__all__ = ["KINDS", "hosts", "recall", "release"]

KINDS = ("stage", "software", "node")
"""Errors after which the next attempt is made elsewhere."""
MOST = 4
"""Hosts that one task avoids at the most: each set of them is a class of tasks of its own to the planner."""
_AT_ONCE = 2000


def hosts(db: sqlite3.Connection, task: int, mark: int, now: float, policy: Policy) -> tuple[str, ...]:
    """Where the last such attempts of a task failed, sorted; nowhere once it waited in vain for another place for as long as for a pilot."""
    errors = db.execute(
        "SELECT e.kind, e.at, n.text FROM attempt a JOIN error e ON e.id = a.error LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name n ON n.id = g.host "
        "WHERE a.task = ? AND a.id > ? AND a.void = 0 ORDER BY a.id DESC",
        (task, mark),
    ).fetchall()
    if not errors or now > errors[0][1] + policy.backoff[min(len(errors), len(policy.backoff)) - 1] + policy.pending:
        return ()
    found = dict.fromkeys(host for kind, _, host in errors if kind in KINDS and host is not None)
    return tuple(sorted(list(found)[:MOST]))


def release(fold: Fold, now: float, policy: Policy) -> None:
    """Tasks that avoided hosts for long enough may go there again: what waits is rendered anew, and cards that nobody takes come back."""
    classes = fold.db.execute(
        "SELECT DISTINCT c.dataset, c.task_def, c.need, c.state FROM live_class c JOIN need n ON n.id = c.need "
        "WHERE c.n > 0 AND c.state IN (?, ?) AND instr(n.body, ?)",
        (int(Task.WAITING), int(Task.QUEUED), '"avoid":['),
    ).fetchall()
    for dataset, task_def, need, state in classes:
        rows = fold.db.execute(
            "SELECT id, mark FROM task INDEXED BY task_live WHERE live = 1 AND dataset = ? AND task_def = ? AND need = ? AND state = ? LIMIT ?",
            (dataset, task_def, need, state, _AT_ONCE),
        ).fetchall()
        over = [number for number, mark in rows if not hosts(fold.db, number, mark, now, policy)]
        if state == Task.WAITING:
            fold.load_tasks(over)
            for number in over:
                fold.tasks[number].need = 0
                fold.dirty_tasks[number] = fold.tasks[number]
        else:
            _recall(fold.db, need, over)
    fold.flush()


def recall(db: sqlite3.Connection, site: int, task_def: int, need: int) -> None:
    """Cards of a class that wait at a site and that hosts are kept away from shall come back: no other host there takes them."""
    rows = db.execute(
        "SELECT a.task FROM attempt a INDEXED BY attempt_live JOIN task t ON t.id = a.task "
        "WHERE a.live = 1 AND a.site = ? AND a.state = ? AND a.stop = 0 AND t.task_def = ? AND t.need = ? LIMIT ?",
        (site, int(Attempt.QUEUED), task_def, need, _AT_ONCE),
    ).fetchall()
    _recall(db, need, [row[0] for row in rows])


def _recall(db: sqlite3.Connection, need: int, tasks: list[int]) -> None:
    """Only those whose card keeps away what their need avoids: others may go anywhere already."""
    away = [json.dumps(["Host", "!=", host], separators=(",", ":")) for host in read_needs(db, [need])[need].avoid]
    db.executemany(
        "UPDATE attempt SET stop = 1 WHERE task = ? AND live = 1 AND state = ? AND stop = 0 AND card IN "
        f"(SELECT k.id FROM card k JOIN need n ON n.id = k.need WHERE {' OR '.join(['instr(n.body, ?)'] * len(away)) or '0'})",
        [(one, int(Attempt.QUEUED), *away) for one in tasks],
    )
