"""What a person orders: suspend, resume, retry, reset, cancel, priority, delete, of a dataset or a range of its jobs.

Hides that some of the jobs are rows and others only a range. Whole datasets change by their own state; jobs that are rows
change through :class:`icp.ledger.fold.Fold`.
"""

from __future__ import annotations

from collections.abc import Sequence

from icp.errors import Refused
from icp.ledger import chaining, ranges
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, Graph
from icp.ledger.fold import Fold
from icp.ledger.inputs import inputs_again
from icp.ledger.kept import change_dataset_tally
from icp.ledger.rows import TaskRow
from icp.states import DATASET, Dataset, Task

__all__ = ["Control"]

JOBS_AT_ONCE = 1000


class Control:
    """Commands on one dataset. ``first``..``last`` are jobs; ``task`` narrows a command to one task definition (by id)."""

    def __init__(self, ledger: Ledger, definitions: Definitions, dataset: int, now: float) -> None:
        self.ledger, self.db, self.definitions, self.dataset, self.now = ledger, ledger.db, definitions, dataset, now
        row = self.db.execute("SELECT name, state, jobs FROM dataset WHERE id = ?", (dataset,)).fetchone()
        self.name, self.state, self.jobs = str(row[0]), Dataset(row[1]), int(row[2])
        self.changed = 0

    @property
    def graph(self) -> Graph:
        return self.definitions.graph(self.dataset)

    # -- whole datasets -----------------------------------------------------------------------------------------

    def suspend(self, reason: str = "suspended by its owner") -> None:
        """Nothing more is sent; unclaimed cards come back; what runs may end and counts."""
        with self.ledger.write() as db:
            self._move("suspend", reason)
            db.execute(
                "UPDATE attempt SET stop = 1 WHERE live = 1 AND state = 0 AND stop = 0 AND task IN "
                "(SELECT id FROM task WHERE dataset = ? AND live = 1 AND state = ?)",
                (self.dataset, int(Task.QUEUED)),
            )
            self.ledger.audit(self.now, "suspend", self.dataset)

    def resume(self) -> None:
        """Go on; stop-loss counts anew; suspended tasks and jobs go on too."""
        with self.ledger.write() as db:
            if self.state == Dataset.SUSPENDED:
                self._move("resume", None)
            db.execute("UPDATE task_def SET same_error = NULL, same_errors = 0 WHERE dataset = ?", (self.dataset,))
            self.ledger.audit(self.now, "resume", self.dataset)
        self.resume_jobs(0, self.jobs - 1)

    def cancel(self) -> None:
        """All that is not ok is cancelled at once; what runs is told to stop."""
        self._refuse("cancel")
        with self.ledger.write():
            self._move("cancel", "cancelled by its owner")
            chaining.leave(self.db, self.dataset)
            self.ledger.audit(self.now, "cancel", self.dataset)
        self.cancel_jobs(0, self.jobs - 1, finals=True)

    def delete(self) -> None:
        """Forget the dataset under its name; its rows and its outputs stay."""
        if self.state in (Dataset.PROCESSING, Dataset.SUSPENDED):
            raise Refused(f"dataset {self.name} is {self.state.name.lower()}", f"`icp cancel {self.name}` first")
        with self.ledger.write() as db:
            db.execute("UPDATE dataset SET deleted = ? WHERE id = ?", (self.now, self.dataset))
            chaining.leave(db, self.dataset)
            self.ledger.audit(self.now, "delete", self.dataset)

    def _refuse(self, event: str) -> None:
        if not DATASET.knows(self.state, event):
            raise Refused(f"dataset {self.name} is {self.state.name.lower()}: it cannot be told to {event}")

    def _move(self, event: str, reason: str | None) -> None:
        self._refuse(event)
        self.state = Dataset(DATASET.step(self.state, event))
        finished = self.now if self.state in (Dataset.COMPLETE, Dataset.CANCELLED) else None
        self.db.execute("UPDATE dataset SET state = ?, reason = ?, finished = ? WHERE id = ?", (int(self.state), reason, finished, self.dataset))

    def reopen(self) -> None:
        """What was complete has something to do again."""
        if self.state == Dataset.CANCELLED:
            raise Refused(f"dataset {self.name} is cancelled", "submit its steering file again under another name: `icp submit --name ...`")
        if self.state == Dataset.COMPLETE:
            self._move("reopened", None)

    def set_priority(self, value: int) -> None:
        with self.ledger.write() as db:
            db.execute("UPDATE dataset SET priority = ? WHERE id = ?", (value, self.dataset))
            self.ledger.audit(self.now, "set priority", self.dataset, str(value))

    # -- ranges of jobs -----------------------------------------------------------------------------------------

    def suspend_jobs(self, first: int, last: int, task: int | None = None) -> None:
        self._each(first, last, {"none": "suspend", "release": "suspend"}, "suspend", task)

    def resume_jobs(self, first: int, last: int, task: int | None = None) -> None:
        self._each(first, last, {"suspend": "release"}, "resume", task)

    def cancel_jobs(self, first: int, last: int, task: int | None = None, *, finals: bool = False) -> None:
        self._each(first, last, {"none": "cancel", "release": "cancel", "suspend": "cancel"}, "cancel", task, finals)

    def retry_jobs(self, first: int, last: int, task: int | None = None) -> None:
        """Failed tasks go again, with all their tries."""
        with self.ledger.write() as db:
            self.reopen()
            db.execute("UPDATE task_def SET same_error = NULL, same_errors = 0 WHERE dataset = ?", (self.dataset,))
        self._each(first, last, {}, "retry", task, finals=True)

    def reset_jobs(self, first: int, last: int, task: int | None = None) -> None:
        """Everything of these jobs (or of one task and what follows from it) anew; what was is void."""
        with self.ledger.write() as db:
            self.reopen()
            begins = {one.id for one in self.graph.tasks if one.given}
            if task is None or begins == {task}:
                chaining.renew(db, self.dataset, first, last)
        self._each(first, last, {"cancel": "release", "suspend": "release"}, "reset", task, finals=task is not None and bool(self._final(task)))

    def replace_jobs(self, first: int, last: int, task: int) -> None:
        """One task of these jobs, which is described otherwise, and what follows from it anew; what was cancelled or suspended stays so."""
        self._each(first, last, {}, "replace", task)

    def prioritise_jobs(self, first: int, last: int, value: int) -> None:
        with self.ledger.write() as db:
            for low, high, status in ranges.segments(db, self.dataset, first, last):
                if status != "rows":
                    ranges.set_priority(db, self.dataset, low, high, value)
                if status == "none" and value > 0:
                    ranges.set_status(db, self.dataset, low, high, "release")
            db.execute(
                "UPDATE task SET priority = ? WHERE dataset = ? AND job BETWEEN ? AND ?", (value, self.dataset, max(0, first), last)
            )
            self.ledger.audit(self.now, "priority", self.dataset, f"{first}-{last}: {value}")

    def _final(self, task: int) -> int:
        return self.graph.defs[task].final

    def _each(
        self, first: int, last: int, unreleased: dict[str, str], event: str, task: int | None, finals: bool = False
    ) -> None:
        if task is not None and self._final(task):
            finals, spans = True, []
        else:
            with self.ledger.write() as db:
                spans = ranges.segments(db, self.dataset, first, last)
                if task is None:
                    for low, high, status in spans:
                        if status in unreleased:
                            self._change_range(low, high, status, unreleased[status])
                            if event == "reset":
                                self.finals_follow(low, high, None)
                self.ledger.audit(self.now, event, self.dataset, f"{first}-{last}")
        for low, high, status in spans:
            if status == "rows":
                for start in range(low, high + 1, JOBS_AT_ONCE):
                    self._rows(start, min(high, start + JOBS_AT_ONCE - 1), event, task)
        if finals:
            self._rows(-(10**9), -1, event, task)

    def _change_range(self, low: int, high: int, old: str, new: str) -> None:
        """Tell jobs that are not rows: their share of the kept counts moves by arithmetic."""
        width = len(self.graph.tasks)
        n = high - low + 1
        mark = int(self.db.execute("SELECT released FROM dataset WHERE id = ?", (self.dataset,)).fetchone()[0])
        if new == "release":
            # below the mark they must be asked for; above it they are simply not released yet
            if low < mark:
                ranges.set_status(self.db, self.dataset, low, min(high, mark - 1), "release")
            if high >= mark:
                ranges.set_status(self.db, self.dataset, max(low, mark), high, None)
        else:
            ranges.set_status(self.db, self.dataset, low, high, new)
        states = {"cancel": Task.CANCELLED, "suspend": Task.SUSPENDED}
        changes = []
        if old in states:
            changes.append((self.dataset, int(states[old]), -n * width))
        if new in states:
            changes.append((self.dataset, int(states[new]), n * width))
        change_dataset_tally(self.db, changes)
        sign = (old == "cancel") - (new == "cancel")
        if sign:
            self._finals_of_range(low, high, sign)
        self.changed += n * width

    def finals_grow(self, first: int, last: int) -> None:
        """These jobs are new: final tasks over all jobs wait for them too, and are done anew; those of groups when the engine has counted them."""
        self._finals_of_range(first, last, 1)
        self.finals_follow(first, last, None)

    def groups_grew(self, first: int, last: int, grown: Sequence[tuple[int, int]]) -> None:
        """Jobs first..last are counted into groups whose final tasks, (task_def, group), were made already."""
        for final, group in grown:
            row = self.db.execute("SELECT left FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (self.dataset, final, group)).fetchone()
            Fold(self.ledger, self.definitions, self.now).final_moved(self.dataset, final, group, int(row[0]))
        self.finals_follow(first, last, None)

    def _finals_of_range(self, low: int, high: int, sign: int) -> None:
        for final in self.graph.finals:
            parents = len(final.parents)
            groups: Sequence[tuple[int, int]] = [(0, high - low + 1)]
            if final.final == 2:
                groups = self.db.execute(
                    "SELECT grp, count(*) FROM job_group WHERE task_def = ? AND job BETWEEN ? AND ? GROUP BY grp", (final.id, low, high)
                ).fetchall()
            for group, n in groups:
                self.db.execute(
                    "UPDATE final_left SET left = left + ? WHERE dataset = ? AND task_def = ? AND grp = ?",
                    (sign * n * parents, self.dataset, final.id, group),
                )
                left, made = self.db.execute(
                    "SELECT left, made FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (self.dataset, final.id, group)
                ).fetchone()
                if made:
                    Fold(self.ledger, self.definitions, self.now).final_moved(self.dataset, final.id, group, left)

    def _rows(self, first: int, last: int, event: str, task: int | None) -> None:
        with self.ledger.write() as db:
            wanted = {
                "suspend": "AND live = 1",
                "resume": "AND live = 0 AND state = 6",
                "retry": "AND live = 0 AND state = 5",
                "cancel": "AND state <> 4 AND state <> 7",
            }
            jobs = [
                row[0]
                for row in db.execute(
                    f"SELECT DISTINCT job FROM task WHERE dataset = ? AND job BETWEEN ? AND ? {wanted.get(event, '')}", (self.dataset, first, last)
                ).fetchall()
            ]
            if not jobs:
                return
            fold = Fold(self.ledger, self.definitions, self.now)
            fold.load_jobs(self.dataset, jobs)
            newest = int(db.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()[0])
            only = None
            if task is not None:
                # what waits for a cancelled task can never run: it goes, and comes back, with it
                only = {task, *(self.graph.descendants(task) if event in ("reset", "replace", "cancel") else [])}
            before = set(self.graph.ancestors(task)) if task is not None and event == "reset" else set()
            for job in jobs:
                for one in sorted(fold.by_job[self.dataset, job].values(), key=lambda row: self.graph.defs[row.task_def].idx):
                    if only is None or one.task_def in only or (one.task_def in before and one.state == Task.CANCELLED):
                        self._one(fold, one, event, newest)
            fold.flush()
            if event in ("reset", "replace"):
                self.finals_follow(min(jobs), max(jobs), only)

    def _one(self, fold: Fold, task: TaskRow, event: str, newest: int) -> None:
        state = Task(task.state)
        if event in ("suspend", "cancel", "resume", "retry") and not _applies(event, state):
            return
        if event == "replace" and state == Task.CANCELLED:
            return
        self.changed += 1
        if event == "replace" and state == Task.SUSPENDED:
            task.mark = newest
            fold.void(task)
            fold.dirty_tasks[task.id] = task
            return
        if event in ("reset", "replace"):
            task.mark = newest
            fold.void(task)
            if task.accepted is not None:
                fold.unaccept(task, "reset")
            else:
                fold.task_event(task, "reset")
                task.not_before = None
                fold.sweep_again(task)
                fold.settle(task)
            inputs_again(fold, task)
            return
        fold.task_event(task, event)
        if event == "suspend":
            for attempt in fold.live_of[task.id]:
                fold.stop(attempt, 1)
        elif event == "cancel":
            for attempt in fold.live_of[task.id]:
                fold.stop(attempt, 2)
            fold.forget_lost(task)
            fold.inputs_done(task, self.definitions.task_def(task.task_def))
        elif event == "retry":
            task.mark, task.not_before = newest, None
            fold.settle(task)
        elif event == "resume":
            fold.settle(task)

    def finals_follow(self, first: int, last: int, only: set[int] | None) -> None:
        """Final tasks over reset or new jobs are reset with them."""
        if first < 0:
            return
        finals = {final.id for final in self.graph.finals if only is None or only & set(final.parents)}
        follow: set[int] = set()
        for final in sorted(finals):
            groups = "SELECT 0"
            if self.graph.defs[final].final == 2:
                groups = f"SELECT grp FROM job_group WHERE task_def = {final} AND job BETWEEN {first} AND {last}"
            follow |= {
                -1 - row[0]
                for row in self.db.execute(
                    f"SELECT grp FROM final_left WHERE dataset = ? AND task_def = ? AND made > 0 AND grp IN ({groups})", (self.dataset, final)
                ).fetchall()
            }
        if follow:
            newest = int(self.db.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()[0])
            fold = Fold(self.ledger, self.definitions, self.now)
            fold.load_jobs(self.dataset, follow)
            for job in follow:
                for task in fold.by_job[self.dataset, job].values():
                    if task.task_def in finals:
                        self._one(fold, task, "reset", newest)
            fold.flush()


def _applies(event: str, state: Task) -> bool:
    if event == "suspend":
        return state in (Task.IDLE, Task.WAITING, Task.QUEUED, Task.PROCESSING)
    if event == "resume":
        return state == Task.SUSPENDED
    if event == "retry":
        return state == Task.FAILED
    return state not in (Task.OK, Task.CANCELLED)
