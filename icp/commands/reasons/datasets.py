"""Why a dataset is in its state, and what holds some of it up: what `icp why DATASET` says (hides where the evidence lies)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from icp import output
from icp.commands.arguments import job_text, plural
from icp.commands.reasons.sites import hindered
from icp.commands.reasons.teller import MENDS, Answer, Teller, last_lines
from icp.commands.status import needs_engine
from icp.ledger import views, views_jobs
from icp.states import Task

if TYPE_CHECKING:
    from icp.ledger.definitions import TaskDefRow
    from icp.ledger.views import SiteView

__all__ = ["DatasetTeller"]

AT_SITES = ("queued", "processing")
SPANS = 20
"""Ranges of jobs of which it is said that they are held."""


class DatasetTeller(Teller):
    """Answers about a dataset as a whole."""

    def dataset(self, only: TaskDefRow | None = None) -> list[Answer]:
        """The dataset's own state first, then whatever holds some of it up."""
        answers = [self.state()]
        if self.view.state in ("complete", "cancelled"):
            return answers
        moves = needs_engine([self.view])
        answers += (self.engine() if moves else []) + self._sites() + self._errors(only)
        if self.view.state != "suspended":
            answers += self._waiting(only)
        answers += self._held() + self._idle(only) + self._finals(only) + self._coming()
        return answers

    def _sites(self) -> list[Answer]:
        answers = []
        queued = self._at(("queued",))
        for one in views.sites(self.db):
            held = hindered(one, one.name in self.config.sites)
            if held is not None and self._matters(held, one.name):
                answers.append(held)
            elif one.name in queued and not one.busy:
                answers.append(self._queued(one, queued[one.name]))
            if one.strange:
                facts = plural(one.strange, "fact")
                sentence = f"{facts} from there named no attempt of this ledger, or made no sense, and did not count"
                answers.append(Answer(f"site {one.name}", "strange", sentence))
        return answers

    def _matters(self, held: Answer, site: str) -> bool:
        """A silent site matters to all, for something may be there that nobody knows of yet."""
        silent = held.state in ("needs login", "refused", "unreachable")
        return silent or self._there(site) or (held.state != "gone" and self.may_use(site))

    def _queued(self, site: SiteView, n: int) -> Answer:
        """Where tasks are queued and none runs, it is the pilots that wait."""
        about, named = f"site {site.name}", f"site.{site.name}"
        never = [(one.pilot, one.never.replace("site.NAME", named)) for one in views.pilots(self.db, site=site.name) if one.never and one.ended is None]
        pending = sum(site.pilots.get(state, 0) for state in ("planned", "submitting", "pending"))
        job = "batch job" if site.direct else "pilot"
        if site.slots:
            sentence = f"{plural(n, 'task')} queued there, which its agents take as they have room"
        elif pending:
            waits = f" ({site.waits})" if site.waits else ""
            sentence = f"{plural(n, 'task')} queued there until a {job} begins: {plural(pending, job)} in the queue{waits}"
        else:
            sentence = f"{plural(n, 'task')} queued there until a {job} begins, and none is in the queue"
        evidence = tuple(f"pilot {pilot} waits for what never comes: {why}" for pilot, why in never)
        return Answer(about, "queued", sentence, evidence, f"icp why {never[0][0]}" if never else "")

    def _there(self, site: str) -> bool:
        """Whether tasks of the dataset are at this site."""
        return site in self._at(AT_SITES)

    def _at(self, states: tuple[str, ...]) -> dict[str, int]:
        """Tasks of the dataset that are in these states, by site."""
        found: Counter[str] = Counter()
        for one in views_jobs.definition_states(self.db, self.graph):
            for site, counts in one.sites.items():
                found[site] += sum(counts.get(word, 0) for word in states)
        return {site: n for site, n in found.items() if n}

    def _errors(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        for one in views.last_errors(self.db, [self.view.number], 5):
            if only is not None and one.task != only.name:
                continue
            exit_ = "" if one.exit is None else f" with exit {one.exit}"
            job = job_text(one.job)
            where = f"in job {job} at site {one.site}, {output.ago(one.at, self.now)}"
            sentence = f"{one.kind} error{exit_}, {where}" if one.n == 1 else f"{one.n} recent errors like this: {one.kind}{exit_}, the last {where}"
            evidence = (*last_lines(one.text), f"`icp logs {self.name} --job {job} --task {one.task}` has all it printed")
            failed = self._count(one.task, Task.FAILED)
            mend = f"icp retry {self.name} --task {one.task}" if failed else ""
            answers.append(Answer(f"task {one.task}", "failed" if failed else "error", sentence, evidence, mend))
        return answers

    def _count(self, task: str, state: Task) -> int:
        return sum(one.states.get(state.name.lower(), 0) for one in views_jobs.definition_states(self.db, self.graph) if one.task == task)

    def _waiting(self, only: TaskDefRow | None) -> list[Answer]:
        """What waits for a place, by need: the planner's own reasons."""
        sums: dict[tuple[int, int], int] = {}
        zones: dict[tuple[int, int], tuple[int, int]] = {}
        for one in self.snapshot.classes:
            if one.dataset == self.view.number and one.state == Task.WAITING and (only is None or one.task_def == only.id):
                sums[one.task_def, one.need] = sums.get((one.task_def, one.need), 0) + one.n
                zones[one.task_def, one.need] = max(zones.get((one.task_def, one.need), (0, 0)), (one.n, one.zone))
        answers = []
        for (task_def, need), n in sums.items():
            about = f"task {self.graph.defs[task_def].name}"
            later, first = views_jobs.backing_off(self.db, self.graph, task_def, need, self.now)
            if later and first is not None:
                sentence = f"{plural(later, 'task')} failed before, and the first goes again in {output.duration(first - self.now)}"
                answers.append(Answer(about, "waiting", sentence))
            if n > later and (limit := self.limit(about, f"{plural(n - later, 'task')} wait{'s' if n - later == 1 else ''}")) is not None:
                answers.append(limit)
            elif n > later:
                answers.append(self.placing(about, plural(n - later, "task"), need, zones[task_def, need][1], task_def=task_def))
        return answers

    def _held(self) -> list[Answer]:
        answers = []
        ranges = views_jobs.spans(self.db, self.view.number, 0, self.view.jobs - 1)
        for low, high, word in ranges[:SPANS]:
            if word in ("suspended", "cancelled"):
                about, they = (f"job {low}", "it was") if low == high else (f"jobs {low}-{high}", "they were")
                mend = f"icp {MENDS[word]} {self.name} --job {about.split()[1]}"
                began = "it began" if low == high else "they began"
                said = self.said("suspend" if word == "suspended" else "cancel", low)
                answers.append(Answer(about, word, f"{they} {word} before {began}{said}", (), mend))
        rows = self.view.suspended - sum((high - low + 1) * len(self.graph.tasks) for low, high, word in ranges if word == "suspended")
        if rows > 0 and self.view.state != "suspended":
            answers.append(self.answer(f"{plural(rows, 'task')} suspended{self.said('suspend')}", (), f"icp resume {self.name}", state="suspended"))
        own = self.own()
        if own is not None and own.unreleased:
            what = f"{plural(own.unreleased, 'job')} not released yet"
            answers.append(self.limit(f"dataset {self.view.name}", what, "unreleased") or self.answer(f"{what}: {self.release()}", state="unreleased"))
        return answers

    def _idle(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        states = {one.task: one.states for one in views_jobs.definition_states(self.db, self.graph)}
        for one in self.graph.tasks:
            n = states[one.name].get("idle", 0)
            if n and (only is None or one.id == only.id):
                parents = [self.graph.defs[parent].name for parent in one.parents]
                evidence = tuple(f"{parent}: " + ", ".join(f"{m} {word}" for word, m in states[parent].items()) for parent in parents)
                stuck = [f"icp {verb} {self.name} --task {parent}" for word, verb in MENDS.items() for parent in parents if states[parent].get(word)]
                verb = "waits" if n == 1 else "wait"
                sentence = f"{plural(n, 'task')} {verb} until {' and '.join(parents)} of the same job {'is' if len(parents) == 1 else 'are'} ok"
                answers.append(Answer(f"task {one.name}", "idle", sentence, evidence, stuck[0] if stuck else ""))
        for one in self.graph.finals:
            n = states[one.name].get("idle", 0)
            if n and (only is None or one.id == only.id):
                sentence = f"{plural(n, 'final task')} {'waits' if n == 1 else 'wait'} until what {'it' if n == 1 else 'they'} read is there again"
                answers.append(Answer(f"task {one.name}", "idle", sentence))
        return answers

    def _finals(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        for one in views_jobs.unmade_finals(self.db, self.graph, 2):
            if only is None or one.task == only.name:
                where = f"final task {one.task}" + (f", group {one.key}" if one.key else "")
                oks = f"{one.ok} {'is' if one.ok == 1 else 'are'} ok"
                waits = f"it waits for {plural(one.left, 'task')} of its {plural(one.jobs, 'job')}; {oks}"
                answers.append(Answer(where, "unreleased", waits if one.left else "its inputs are complete: the next tick makes it"))
        return answers

    def _coming(self) -> list[Answer]:
        if not self.view.coming:
            return []
        verb = "is" if self.view.coming == 1 else "are"
        return [self.answer(f"{plural(self.view.coming, 'kept file')} {verb} still on the way home", (f"they will be in {self.view.outputs}",),
                             f"icp outputs {self.name} --missing", state="coming")]  # fmt: skip
