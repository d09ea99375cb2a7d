"""One transaction's work: events on attempts and tasks, folded in memory through icp.states, each row written once.

Hides the bookkeeping that every change of state drags along: kept counts, children's ``waiting_on``, final tasks, files,
statistics, limits, back-off and stop-loss. Whoever uses it loads rows, sends events, and calls :meth:`Fold.flush` inside the
same write transaction.
"""

from __future__ import annotations

import json
from collections import Counter

from icp.ledger import avoided, cached
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, TaskDefRow
from icp.ledger.inputs import inputs_again
from icp.ledger.kept import KeptCounts
from icp.ledger.readers import drop_readerless
from icp.ledger.rows import AttemptRow, TaskRow, read_attempts, write_attempts, write_tasks
from icp.ledger.stop_loss import StopLoss, fingerprint
from icp.ledger.work import KeptWork
from icp.ledger.working_set import WorkingSet
from icp.states import ATTEMPT, TASK, Attempt, File, Task

__all__ = ["BACKOFF", "LIMITS", "Fold"]

BACKOFF = (0, 60, 300, 900, 3600)
"""Seconds before the next try, by the number of failures so far (the last for all that follow)."""
LIMITS = {"resource": 4, "stage": 8, "software": 8, "node": 8, "gone": 20}
"""Failures of a kind after which a task is failed; ``payload`` is the task definition's own ``max_tries``."""

_MAY_HAVE_STORED = ("ended_error", "ended_evicted", "ended_cancelled", "agent_died")


class Fold(WorkingSet):
    """See the module. ``observed`` is the observed time (seconds) of the site whose answer is folded."""

    def __init__(
        self,
        ledger: Ledger,
        definitions: Definitions,
        now: float,
        *,
        observed: float = 0.0,
        backoff: tuple[float, ...] = BACKOFF,
        limits: dict[str, int] | None = None,
    ) -> None:
        super().__init__(ledger, definitions)
        self.now, self.observed = now, observed
        self.backoff, self.limits = backoff, {**LIMITS, **(limits or {})}
        self.new_tasks: list[TaskRow] = []
        self.dirty_tasks: dict[int, TaskRow] = {}
        self.dirty_attempts: dict[int, AttemptRow] = {}
        self.kept = KeptCounts()
        self.work = KeptWork(ledger.db, now)
        self.files: list[tuple[int, int, str, int, bytes, int, int]] = []
        self.replicas: list[tuple[int, int, int]] = []
        self.coming: Counter[int] = Counter()
        self.maybe_drop: set[int] = set()
        self.read: set[int] = set()
        self.touched: set[int] = set()
        self.refused = 0
        self.accepted = 0
        self.stop_loss = StopLoss(ledger.db, definitions)
        self._zones: dict[int, int] = {}

    # -- events -------------------------------------------------------------------------------------------------

    def task_event(self, task: TaskRow, event: str) -> bool:
        """Move a task; False (and counted) where its table knows no such move."""
        if not TASK.knows(Task(task.state), event):
            self.refused += 1
            return False
        task.state = int(TASK.step(Task(task.state), event))
        self.dirty_tasks[task.id] = task
        return True

    def attempt_event(self, attempt: AttemptRow, event: str) -> bool:
        if not ATTEMPT.knows(Attempt(attempt.state), event):
            self.refused += 1
            return False
        attempt.state = int(ATTEMPT.step(Attempt(attempt.state), event))
        attempt.since = self.observed if attempt.live else None
        self.dirty_attempts[attempt.id] = attempt
        return True

    def progress(self, attempt: AttemptRow, event: str, agent: int) -> None:
        """A live attempt was seen: claimed, staging, running or storing."""
        if not self.attempt_event(attempt, event):
            return
        attempt.agent = agent
        if not attempt.void:
            self.task_event(self.tasks[attempt.task], "claimed")

    def ended(self, attempt: AttemptRow, event: str) -> bool:
        """A live attempt ended without a result that counts: its task goes again, or is exhausted."""
        if not self.attempt_event(attempt, event):
            return False
        self._no_longer_live(attempt)
        task = self.tasks[attempt.task]
        self.work.ended(task, attempt)
        # It may have stored outputs before it ended. Those of a lost one wait: a late ok of it could still be accepted.
        if event in _MAY_HAVE_STORED or (event == "gone" and (attempt.void or task.accepted is not None)):
            self._forget_stored(attempt, task)
        if not attempt.void:
            self._after_failure(attempt, task)
        return True

    def _forget_stored(self, attempt: AttemptRow, task: TaskRow) -> None:
        """What an attempt stored at its site will never count: the site shall remove it."""
        if self.definitions.task_def(task.task_def).outputs:
            self.replicas.append((attempt.id, attempt.site, 1))

    def error(self, attempt: AttemptRow, kind: str, text: str, *, blameless: bool = False) -> bool:
        """A live attempt ended with an error of this kind; ``blameless``: one that tells nothing against its task definition."""
        if not ATTEMPT.knows(Attempt(attempt.state), "ended_error"):
            self.refused += 1
            return False
        task = self.tasks[attempt.task]
        mark = fingerprint(kind, attempt.exit, text)
        attempt.error = self.db.execute(
            "INSERT INTO error (attempt, task_def, kind, fingerprint, text, at) VALUES (?, ?, ?, ?, ?, ?)",
            (attempt.id, task.task_def, kind, mark, text, self.now),
        ).lastrowid
        if not attempt.void and not blameless:
            self.stop_loss.error(task.task_def, mark)
        self.touched.add(task.dataset)
        done = self.ended(attempt, "ended_error")
        if kind in avoided.KINDS and not blameless and not attempt.void and task.state in (Task.IDLE, Task.WAITING):
            task.need = 0  # it is rendered anew, with where it failed
        return done

    def ok(self, attempt: AttemptRow, outputs: list[tuple[int, str, int, bytes]], stats: dict[str, float], wall: int) -> bool:
        """An attempt ended well with these (output index, name, bytes, sha256); ``wall`` in ms. True if it is accepted."""
        late = not attempt.live
        if not self.attempt_event(attempt, "ended_ok"):
            return False
        task = self.tasks[attempt.task]
        definition = self.definitions.task_def(task.task_def)
        self._no_longer_live(attempt)
        if attempt.void or task.accepted is not None or task.state == Task.CANCELLED:
            if outputs:
                self.replicas.append((attempt.id, attempt.site, 1))
            self.work.ended(task, attempt)
            return False
        self.task_event(task, "accepted")
        task.accepted, task.site, task.not_before = attempt.id, attempt.site, None
        self.accepted += 1
        self._void_others(task)
        self.work.ended(task, attempt, accepted=True, size=sum(size for _, _, size, _ in outputs))
        for index, name, size, digest in outputs:
            kept = definition.outputs[index].kept
            self.files.append((attempt.id, index, name, size, digest, int(kept), int(File.PRODUCED)))
            self.coming[task.dataset] += kept
        if outputs:
            self.replicas.append((attempt.id, attempt.site, 0))
            self.maybe_drop.add(attempt.id)
            if attempt.try_ > 1 or late:
                self.forget_lost(task)
        if stats:
            attempt.stats = json.dumps(stats, separators=(",", ":"), sort_keys=True)
            self.kept.statistics(task.dataset, task.task_def, stats)
        self.kept.runtime(task.task_def, wall, attempt.rss or 0)
        self.stop_loss.ok(task.task_def)
        self._children(task, definition, attempt.site)
        self.inputs_done(task, definition)
        return True

    def unaccept(self, task: TaskRow, event: str) -> None:
        """Take an accepted attempt back (``reset`` or ``output_lost``): it is void for good."""
        attempt_id = task.accepted
        if not self.task_event(task, event):
            return
        definition = self.definitions.task_def(task.task_def)
        if attempt_id is not None:
            self.load(read_attempts(self.db, "id", [attempt_id]))
            attempt = self.attempts[attempt_id]
            attempt.void = 1
            self.dirty_attempts[attempt.id] = attempt
            self.kept.stale.add((task.dataset, task.task_def))
            self.work.taken_back(task, attempt)
            self._forget_files(task.dataset, attempt)
        task.accepted, task.site, task.not_before = None, 0, None
        self.sweep_again(task)
        self._children(task, definition, None)
        self.settle(task)
        if event == "output_lost":
            inputs_again(self, task)

    def sweep_again(self, task: TaskRow) -> None:
        """A final task that runs anew will read its inputs: they stay until it ends again."""
        if task.job < 0:
            self.db.execute(
                "UPDATE final_left SET made = 1, swept = 0 WHERE dataset = ? AND task_def = ? AND grp = ?",
                (task.dataset, task.task_def, -1 - task.job),
            )

    def settle(self, task: TaskRow) -> None:
        """A task that just became waiting: carded if it has a live attempt, idle if a parent has none accepted."""
        if task.state != Task.WAITING:
            return
        live = [row for row in self.live_of[task.id] if row.live and not row.void]
        if live:
            self.task_event(task, "carded")
            task.site = live[-1].site
            if any(row.state != Attempt.QUEUED for row in live):
                self.task_event(task, "claimed")
        else:
            task.site = 0
            if task.waiting_on > 0:
                self.task_event(task, "unready")
                if self._parent_cancelled(task):
                    self.task_event(task, "cancel")
                    self.forget_lost(task)

    def _parent_cancelled(self, task: TaskRow) -> bool:
        """Whether a parent was given up, so that this task can never be ready."""
        job = self.by_job.get((task.dataset, task.job), {})
        parents = self.definitions.task_def(task.task_def).parents if task.job >= 0 else ()
        return any(parent in job and job[parent].state == Task.CANCELLED for parent in parents)

    def forget_lost(self, task: TaskRow) -> None:
        """What attempts stored that are believed lost (no word of who held them may have been readable), or that a fenced agent held, counts no more."""
        if self.definitions.task_def(task.task_def).outputs:
            rows = self.db.execute(
                "SELECT id, site FROM attempt WHERE task = ? AND (state = ? OR (state = ? AND agent IS NOT NULL))",
                (task.id, int(Attempt.LOST), int(Attempt.RECALLED)),
            ).fetchall()
            self.replicas += [(attempt, site, 1) for attempt, site in rows if attempt != task.accepted]

    def void(self, task: TaskRow) -> None:
        """No attempt of a task counts any more, nor could one that is believed lost; those that live shall stop."""
        self.forget_lost(task)
        self.load(read_attempts(self.db, "task", [task.id], f"AND void = 0 AND state IN ({int(Attempt.LOST)}, {int(Attempt.RECALLED)})"))
        for row in [one for one in self.attempts.values() if one.task == task.id]:
            if row.live or row.state in (Attempt.LOST, Attempt.RECALLED):
                row.void = 1
                self.dirty_attempts[row.id] = row
            if row.live:
                self.stop(row, 2)

    def stop(self, attempt: AttemptRow, how: int) -> None:
        """Ask for an attempt's end: 1 recall its card if nobody has it, 2 also cancel it where it runs."""
        if how > attempt.stop % 3 or (how == 2 and attempt.stop == 3):
            attempt.stop = how
            self.dirty_attempts[attempt.id] = attempt

    # -- consequences -------------------------------------------------------------------------------------------

    def _no_longer_live(self, attempt: AttemptRow) -> None:
        live = self.live_of.get(attempt.task)
        if live and attempt in live:
            live.remove(attempt)

    def _void_others(self, task: TaskRow) -> None:
        for row in list(self.live_of[task.id]):
            row.void = 1
            self.dirty_attempts[row.id] = row
            self.stop(row, 2)

    def _after_failure(self, attempt: AttemptRow, task: TaskRow) -> None:
        if any(row.live and not row.void for row in self.live_of[task.id]):
            return
        counted = attempt.state in (Attempt.ERROR, Attempt.EVICTED, Attempt.LOST)
        if counted:
            counts = self._failures(task)
            definition = self.definitions.task_def(task.task_def)
            over = counts["payload"] >= definition.tries or any(counts[kind] >= limit for kind, limit in self.limits.items())
            if over:
                task.site = 0
                self.task_event(task, "exhausted")
                return
            errors = sum(counts.values()) - counts["gone"]
            if attempt.state == Attempt.ERROR:
                pause = self.backoff[min(errors, len(self.backoff)) - 1]
                task.not_before = self.now + pause if pause else None
                if task.tier != counts["resource"]:
                    # the engine renders the need anew, with the tier's larger resources
                    task.tier, task.need = counts["resource"], 0
        self.task_event(task, "again")
        self.settle(task)

    def _failures(self, task: TaskRow) -> Counter[str]:
        """Failures of a task since it was last retried, by kind; evicted and lost together are ``gone``."""
        counts: Counter[str] = Counter()
        rows = self.db.execute(
            "SELECT a.id, a.state, e.kind FROM attempt a LEFT JOIN error e ON e.id = a.error WHERE a.task = ? AND a.id > ? AND a.void = 0",
            (task.id, task.mark),
        ).fetchall()
        for attempt_id, state, kind in rows:
            ours = self.attempts.get(attempt_id)
            if ours is not None:
                state = ours.state
                if ours.error is not None and kind is None:
                    kind = self.db.execute("SELECT kind FROM error WHERE id = ?", (ours.error,)).fetchone()[0]
            if state == Attempt.ERROR:
                counts[kind] += 1
            elif state in (Attempt.EVICTED, Attempt.LOST):
                counts["gone"] += 1
        return counts

    def _children(self, task: TaskRow, definition: TaskDefRow, site: int | None) -> None:
        """Set ``waiting_on`` of the tasks that wait for this one, from their parents: never counted down."""
        if not definition.children:
            return
        job = self.by_job[task.dataset, task.job]
        for child_def in definition.children:
            child = job.get(child_def)
            if child is None:
                continue
            parents = self.definitions.task_def(child_def).parents
            child.waiting_on = sum(1 for parent in parents if parent not in job or job[parent].accepted is None)
            self.dirty_tasks[child.id] = child
            if site is not None and any(one.parent == definition.id for one in self.definitions.task_def(child_def).inputs):
                child.zone = self._zone(site)
            if child.waiting_on == 0 and child.state == Task.IDLE:
                self.task_event(child, "ready")
            elif child.waiting_on and child.state in (Task.WAITING, Task.QUEUED, Task.PROCESSING):
                self.task_event(child, "unready")
                for row in self.live_of[child.id]:
                    self.stop(row, 1)

    def _zone(self, site: int) -> int:
        if site not in self._zones:
            self._zones[site] = int(self.db.execute("SELECT zone FROM site WHERE id = ?", (site,)).fetchone()[0])
        return self._zones[site]

    def inputs_done(self, task: TaskRow, definition: TaskDefRow) -> None:
        """Outputs that this task read may have no reader left."""
        if definition.inputs or definition.given:
            self.read.add(task.id)
        if definition.final:
            self.kept.swept.add((task.dataset, task.task_def, -1 - task.job))
        elif definition.inputs:
            job = self.by_job[task.dataset, task.job]
            for one in definition.inputs:
                parent = job.get(one.parent)
                if parent is not None and parent.accepted is not None:
                    self.maybe_drop.add(parent.accepted)

    def _forget_files(self, dataset: int, attempt: AttemptRow) -> None:
        rows = self.db.execute("SELECT id, state, kept FROM file WHERE attempt = ?", (attempt.id,)).fetchall()
        for file_id, state, kept in rows:
            if kept and state in (File.PRODUCED, File.RELAYING, File.COLLECTING):
                self.coming[dataset] -= 1
            if state not in (File.LOST, File.DROPPED):
                self.db.execute("UPDATE file SET state = ?, live = 0 WHERE id = ?", (int(File.DROPPED), file_id))
        if rows:
            self.replicas.append((attempt.id, attempt.site, 1))

    # -- writing ------------------------------------------------------------------------------------------------

    def add_task(self, row: TaskRow) -> None:
        """A new row (its ``id`` is given at flush)."""
        self.new_tasks.append(row)

    def flush(self) -> None:
        """Write everything; the caller commits."""
        write_attempts(self.db, self.dirty_attempts.values())
        changed = [*self.dirty_tasks.values(), *self.new_tasks]
        self.kept.count(self.definitions, changed)
        write_tasks(self.db, changed)
        self.db.executemany(
            "INSERT INTO file (attempt, output, name, bytes, sha256, kept, state) VALUES (?, ?, ?, ?, ?, ?, ?)", self.files
        )
        # the last word counts: a late ok may be accepted of what was to be dropped a moment ago
        self.db.executemany(
            "INSERT INTO replica (attempt, site, dropping) VALUES (?, ?, ?) ON CONFLICT (attempt, site) DO UPDATE SET dropping = excluded.dropping",
            self.replicas,
        )
        self.db.executemany("UPDATE dataset SET coming = coming + ? WHERE id = ?", [(n, one) for one, n in self.coming.items() if n])
        for row in changed:
            self.touched.add(row.dataset)
        self.work.write()
        for final in self.kept.write(self.db, self.ledger.name_id, self.definitions):
            self.final_moved(*final)
        if self.maybe_drop:
            drop_readerless(self.db, self.definitions, self.maybe_drop)
        if self.read:
            cached.release(self.db, self.read)
        self.stop_loss.write()
        for row in self.dirty_tasks.values():
            row.was = (row.need, row.zone, row.site, row.state)
        for row in self.new_tasks:
            row.was = (row.need, row.zone, row.site, row.state)
        self._clear()

    def _clear(self) -> None:
        self.dirty_tasks.clear()
        self.dirty_attempts.clear()
        self.new_tasks.clear()
        self.files.clear()
        self.replicas.clear()
        self.coming.clear()
        self.maybe_drop.clear()
        self.read.clear()
        self.kept = KeptCounts()
        self.work = KeptWork(self.db, self.now)

    def final_moved(self, dataset: int, task_def: int, group: int, left: int) -> None:
        """The kept count of a final task that is a row already changed: it waits again, or is ready."""
        row = self.db.execute("SELECT id FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (dataset, -1 - group, task_def)).fetchone()
        if row is None:
            return
        inner = Fold(self.ledger, self.definitions, self.now, observed=self.observed)
        inner.load_tasks([row[0]])
        task = inner.tasks[row[0]]
        task.waiting_on = left
        inner.dirty_tasks[task.id] = task
        if left == 0 and task.state == Task.IDLE:
            inner.task_event(task, "ready")
            oks = inner.db.execute("SELECT oks FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (dataset, task_def, group)).fetchone()[0]
            if not oks:
                inner.task_event(task, "cancel")
        elif left and task.state in (Task.WAITING, Task.QUEUED, Task.PROCESSING):
            inner.task_event(task, "unready")
            for attempt in inner.live_of[task.id]:
                inner.stop(attempt, 1)
        inner.flush()
