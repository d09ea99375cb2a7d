"""A task that runs again needs its inputs again: parents whose outputs were dropped or lost run again too (hides who they are)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icp.states import File

if TYPE_CHECKING:
    from icp.ledger.fold import Fold
    from icp.ledger.rows import TaskRow

__all__ = ["inputs_again"]


def inputs_again(fold: Fold, task: TaskRow) -> None:
    """Take back the accepted attempts whose outputs this task reads and that are neither at home nor at a site."""
    definition = fold.definitions.task_def(task.task_def)
    if definition.final:
        _members_again(fold, task)
        return
    for one in definition.inputs:
        parent = fold.by_job[task.dataset, task.job].get(one.parent)
        if parent is None or parent.accepted is None:
            continue
        gone = fold.db.execute(
            "SELECT 1 FROM file WHERE attempt = ? AND output = ? AND state IN (?, ?)", (parent.accepted, one.output, int(File.DROPPED), int(File.LOST))
        ).fetchone()
        if gone:
            fold.unaccept(parent, "output_lost")


def _members_again(fold: Fold, task: TaskRow) -> None:
    """The same for a final task, over the members of its group."""
    definition = fold.definitions.task_def(task.task_def)
    for one in definition.inputs:
        rows = fold.db.execute(
            "SELECT t.id FROM task t JOIN file f ON f.attempt = t.accepted WHERE t.dataset = ? AND t.task_def = ? AND f.output = ? "
            "AND f.state IN (?, ?) AND (? = 1 OR t.job IN (SELECT job FROM job_group WHERE task_def = ? AND grp = ?))",
            (task.dataset, one.parent, one.output, int(File.DROPPED), int(File.LOST), definition.final, definition.id, -1 - task.job),
        ).fetchall()
        fold.load_tasks([row[0] for row in rows])
        for (number,) in rows:
            fold.unaccept(fold.tasks[number], "output_lost")
