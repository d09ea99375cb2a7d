"""A dataset that its owner changes after it was submitted: limits, name, more jobs (hides which kept counts move with it).

The caller commits; what changes is written to the audit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from icp.errors import Refused
from icp.ledger.control import Control
from icp.ledger.files import job_folder
from icp.ledger.submit import check_name
from icp.states import Attempt, Task

__all__ = ["Limits", "check_growth", "extend", "grow", "limits", "rename", "set_category", "set_max_running", "set_max_tries", "set_sites", "set_stop_loss"]

Limits = tuple[int | None, list[str] | None]
"""(tasks at once, names of sites)"""


def limits(db: sqlite3.Connection, dataset: int) -> Limits:
    """What a dataset may use; None: no limit."""
    most, only = db.execute("SELECT max_running, sites FROM dataset WHERE id = ?", (dataset,)).fetchone()
    return most, None if only is None else json.loads(only)


def set_max_running(control: Control, most: int | None) -> None:
    """So many tasks at sites at once; what waits in cards beyond comes back and goes again as there is room."""
    control.db.execute("UPDATE dataset SET max_running = ? WHERE id = ?", (most, control.dataset))
    if most is not None:
        there = _at_sites(control.db, control.dataset)
        if there > most:
            _recall(control, "1 = 1", (), there - most)
    control.ledger.audit(control.now, "set max-running", control.dataset, "none" if most is None else str(most))


def set_sites(control: Control, names: Sequence[str] | None) -> None:
    """Only these sites from now on; cards that wait at others come back, what runs there may end and counts."""
    control.db.execute("UPDATE dataset SET sites = ? WHERE id = ?", (None if names is None else json.dumps(sorted(names)), control.dataset))
    if names is not None:
        marks = ", ".join("?" * len(names))
        _recall(control, f"site NOT IN (SELECT id FROM site WHERE name IN ({marks}))", tuple(names), -1)
    control.ledger.audit(control.now, "set sites", control.dataset, "any" if names is None else ", ".join(sorted(names)))


def set_stop_loss(control: Control, errors: int) -> None:
    """So many identical errors in a row suspend the dataset; 0: none do."""
    control.db.execute("UPDATE dataset SET stop_loss = ? WHERE id = ?", (errors, control.dataset))
    control.ledger.audit(control.now, "set stop-loss", control.dataset, str(errors))


def set_max_tries(control: Control, tries: int) -> None:
    """So many failures of its own end a task, of all tasks of the dataset."""
    control.db.execute("UPDATE task_def SET tries = ? WHERE dataset = ?", (tries, control.dataset))
    control.ledger.audit(control.now, "set max-tries", control.dataset, str(tries))


def set_category(control: Control, text: str) -> None:
    control.db.execute("UPDATE dataset SET category = ? WHERE id = ?", (text, control.dataset))
    control.ledger.audit(control.now, "set category", control.dataset, text)


def _at_sites(db: sqlite3.Connection, dataset: int) -> int:
    row = db.execute(
        "SELECT coalesce(sum(n), 0) FROM live_class WHERE dataset = ? AND state IN (?, ?)", (dataset, int(Task.QUEUED), int(Task.PROCESSING))
    ).fetchone()
    return int(row[0])


def _recall(control: Control, where: str, values: tuple[str, ...], most: int) -> None:
    """Cards that no agent has claimed come back (``most`` < 0: all of them), the newest first."""
    control.db.execute(
        f"UPDATE attempt SET stop = 1 WHERE id IN (SELECT id FROM attempt WHERE live = 1 AND state = {int(Attempt.QUEUED)} AND stop = 0 AND {where} "
        f"AND task IN (SELECT id FROM task WHERE dataset = ? AND live = 1 AND state = {int(Task.QUEUED)}) ORDER BY id DESC LIMIT ?)",
        (*values, control.dataset, most),
    )


def rename(control: Control, name: str) -> None:
    """Another name for people. What its jobs are told as their dataset's name, and where outputs lie, stays."""
    check_name(control.db, name)
    control.db.execute("UPDATE dataset SET name = ? WHERE id = ?", (name, control.dataset))
    control.ledger.audit(control.now, "rename", control.dataset, f"{control.name} to {name}")


def extend(control: Control, more: int) -> tuple[int, int]:
    """So many more jobs behind the others: the first and the last of them. Final tasks over all jobs wait for them, and are done anew."""
    db, dataset, jobs = control.db, control.dataset, control.jobs
    definition = json.loads(db.execute("SELECT definition FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    kind = definition["jobs"]["kind"]
    if definition["jobs"].get("source"):
        source = definition["jobs"]["source"].removeprefix("dataset:").partition("/")[0]
        follows = definition["jobs"].get("follow")
        hint = f"submit its file again under another name, once {source} has more"
        hint = f"`icp extend {source} --jobs N`: their outputs come by themselves" if follows else hint
        raise Refused(f"the jobs of dataset {control.name} are made from outputs of dataset {source}, which says how many there are", hint)
    if kind != "count":
        what = "a scan" if kind == "scan" else "a list"
        hint = f"`icp submit STEERING --replace {control.name}` with a longer one"
        raise Refused(f"the jobs of dataset {control.name} come from {what}, which says how many there are", hint)
    definition["jobs"]["count"] = jobs + more
    db.execute("UPDATE dataset SET definition = ? WHERE id = ?", (json.dumps(definition, separators=(",", ":")), dataset))
    grow(control, jobs + more)
    control.ledger.audit(control.now, "extend", dataset, f"{jobs}-{jobs + more - 1}")
    return jobs, jobs + more - 1


def check_growth(control: Control, total: int) -> None:
    """Refused where the folders of outputs have not the digits for so many jobs."""
    jobs = control.jobs
    if len(job_folder(0, total)) != len(job_folder(0, jobs)):
        most = 10 ** len(job_folder(0, jobs))
        raise Refused(f"the folders of its outputs are numbered for at most {most:,} jobs, and it would have {total:,}", "submit another dataset for the rest")


def grow(control: Control, total: int) -> None:
    """The dataset has so many jobs now, more than before; its definition says so already."""
    check_growth(control, total)
    db, dataset, jobs = control.db, control.dataset, control.jobs
    control.reopen()
    grouped = any(final.final == 2 for final in control.graph.finals)
    db.execute(
        "UPDATE dataset SET jobs = ?, grouped = CASE WHEN ? THEN grouped ELSE ? END WHERE id = ?",
        (total, grouped, total, dataset),
    )
    control.jobs = total
    db.execute("UPDATE final_left SET members = members + ? WHERE dataset = ? AND task_def IN (SELECT id FROM task_def WHERE dataset = ? AND final = 1)",
               (total - jobs, dataset, dataset))  # fmt: skip
    control.finals_grow(jobs, total - 1)
