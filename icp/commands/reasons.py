"""Why things are as they are: what `icp why` says of datasets, jobs and tasks in each of their states (hides where the evidence lies)."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from icp import output, planner
from icp.commands.arguments import job_text, plural
from icp.commands.status import STALE, pid_lives
from icp.engine.shipments import lacking
from icp.ledger import cached, files, views, views_jobs, views_results
from icp.ledger.definitions import Definitions, Graph, TaskDefRow
from icp.ledger.snapshot import read_needs, read_snapshot
from icp.states import Agent, Task

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.views import DatasetView
    from icp.ledger.views_jobs import AttemptView, TaskView
    from icp.model.need import Need
    from icp.model.plan import DatasetView as PlannedDataset
    from icp.model.plan import SiteView

__all__ = ["Answer", "Teller"]

LAST = 5
"""Last lines of an error that are evidence."""


@dataclass(frozen=True)
class Answer:
    """``mend`` is a command, or "" where time alone does."""

    about: str
    state: str
    sentence: str
    evidence: tuple[str, ...] = ()
    mend: str = ""


@dataclass(frozen=True)
class _Case:
    """A task, all its attempts, and the live one that counts."""

    about: str
    task: TaskView
    tries: list[AttemptView]
    live: AttemptView | None


def last_lines(text: str, most: int = LAST) -> tuple[str, ...]:
    """The last lines that are not empty."""
    return tuple("| " + line for line in [line.rstrip() for line in text.splitlines() if line.strip()][-most:])


class Teller:
    """Answers for one dataset, in one consistent view of the ledger."""

    def __init__(self, db: Any, graph: Graph, view: DatasetView, config: Config, now: float) -> None:
        self.db, self.graph, self.view, self.config, self.now = db, graph, view, config, now
        self.name = shlex.quote(view.name)
        seen = read_snapshot(db, Definitions(db), [(one.name, one.attributes, one.pilot) for one in config.sites.values()], now)
        self.snapshot = replace(seen, sites=tuple(replace(one, lacks=lacking(config.places, config.sites[one.name].shipped)) for one in seen.sites))

    # -- the dataset --------------------------------------------------------------------------------------------

    def dataset(self, only: TaskDefRow | None = None) -> list[Answer]:
        """The dataset's own state first, then whatever holds some of it up."""
        answers = [self._state()]
        if self.view.state in ("complete", "cancelled"):
            return answers
        answers += self._engine() + self._sites() + self._errors(only)
        if self.view.state != "suspended":
            answers += self._waiting(only)
        answers += self._held() + self._idle(only) + self._finals(only) + self._coming()
        return answers

    def _answer(self, sentence: str, evidence: tuple[str, ...] = (), mend: str = "", about: str | None = None, state: str | None = None) -> Answer:
        return Answer(about or f"dataset {self.view.name}", state or self.view.state, sentence, evidence, mend)

    def _state(self) -> Answer:
        view = self.view
        counts = [(view.ok, "ok"), (view.processing, "processing"), (view.queued, "queued"), (view.waiting, "waiting"), (view.idle, "idle"),
                  (view.unreleased, "unreleased"), (view.failed, "failed"), (view.suspended, "suspended"), (view.cancelled, "cancelled")]  # fmt: skip
        evidence = (f"{plural(view.tasks, 'task')}: " + ", ".join(f"{n:,} {word}" for n, word in counts if n),)
        if view.state == "complete":
            return self._answer(f"everything is done, and its outputs are home in {view.outputs}", evidence, f"icp outputs {self.name}")
        if view.state == "cancelled":
            said = self._said("cancel")
            return self._answer(f"it was cancelled{said}", evidence, f"icp show {self.name} --steering > again.toml && icp submit again.toml --name OTHER")
        if view.state == "suspended":
            stop_loss = (view.reason or "").startswith("stop-loss")
            hint = ("look at the error below first; `icp retry` sends what failed again",) if stop_loss else ()
            sentence = f"{view.reason or 'it is suspended'}{'' if stop_loss else self._said('suspend')}"
            return self._answer(sentence, (*evidence, *hint), f"icp resume {self.name}")
        if view.state == "errors":
            return self._answer(f"nothing moves any more: {plural(view.failed, 'task')} failed", evidence, f"icp retry {self.name}")
        moving = view.processing + view.queued
        return self._answer(f"{plural(moving, 'task')} at sites now" if moving else "none of it is at a site now", evidence)

    def _said(self, what: str, job: int | None = None) -> str:
        """By whom and when, from the audit."""
        for one in reversed(views_jobs.commands(self.db, self.view.number)):
            if one.what == what and (job is None or one.detail is None or _covers(one.detail, job)):
                return f" by {one.who} at {output.clock(one.at)}"
        return ""

    def _engine(self) -> list[Answer]:
        engine = views.engine(self.db)
        if engine.last_tick is None:
            return [Answer("engine", "absent", "no engine ever ran on this ledger, so nothing moves", (), "icp run")]
        age = self.now - engine.last_tick
        here = engine.host == os.uname().nodename
        if age < STALE and (not here or pid_lives(engine.pid)):
            return []
        evidence = (f"last tick {output.ago(engine.last_tick, self.now)}" + (f" (pid {engine.pid} on {engine.host})" if engine.pid else ""),)
        if here and pid_lives(engine.pid):
            return [Answer("engine", "slow", "the engine runs and has not ticked for long", evidence)]
        return [Answer("engine", "absent", "no engine runs, so nothing new is sent and nothing comes home", evidence, "icp run")]

    def _sites(self) -> list[Answer]:
        answers = []
        for one in views.sites(self.db):
            if one.login is not None:
                sentence = f"it needs a person's login since {output.clock(one.login)}; what runs there goes on, and nothing is believed lost"
                answers.append(Answer(f"site {one.name}", "needs login", sentence, (one.reason,) if one.reason else (), f"icp login {shlex.quote(one.name)}"))
            elif not one.reachable:
                why = (one.reason,) if one.reason else ()
                sentence = f"it does not answer since {output.clock(one.unreachable_since)}; what runs there goes on, and nothing is believed lost"
                answers.append(Answer(f"site {one.name}", "unreachable", sentence, why))
            if one.strange:
                facts = plural(one.strange, "fact")
                sentence = f"{facts} from there named no attempt of this ledger, or made no sense, and did not count"
                answers.append(Answer(f"site {one.name}", "strange", sentence))
        return answers

    def _errors(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        for one in views.last_errors(self.db, [self.view.number], 5):
            if only is not None and one.task != only.name:
                continue
            exit_ = "" if one.exit is None else f" with exit {one.exit}"
            job = job_text(one.job)
            sentence = f"{plural(one.n, 'recent error')} like this: {one.kind}{exit_}, the last in job {job} at site {one.site}, {output.ago(one.at, self.now)}"
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
            if n > later and (limit := self._limit(about, f"{plural(n - later, 'task')} wait{'s' if n - later == 1 else ''}")) is not None:
                answers.append(limit)
            elif n > later:
                answers.append(self._placing(about, plural(n - later, "task"), self.snapshot.needs.get(need), zones[task_def, need][1]))
        return answers

    def _placing(self, about: str, what: str, need: Need | None, zone: int, since: tuple[str, ...] = ()) -> Answer:
        verb = "waits" if what.startswith(("it", "1 ")) else "wait"
        if need is None:
            return Answer(about, "waiting", f"{what} {verb} for the next tick, which looks anew at what it needs", since)
        patience = self.config.policy.pending
        told = planner.explain(need, self._known(), self.now, zone, self._own(), patience)
        reasons = [replace(one, mend=self._mended(one.mend)) for one in told]
        away = planner.avoiding_reason(need, self._known(), self.now, patience, self._own())
        if not reasons:
            return Answer(about, "waiting", f"{what} {verb} for a site: no tick has met one yet", since, "icp run")
        able = [one for one in reasons if not one.mend]
        mend = "" if able else next(one.mend for one in reasons if one.mend)
        sentence = f"{what} {verb} for a place" if able else f"{what} can run nowhere"
        return Answer(about, "waiting", sentence, (*([away.sentence] if away else ()), *(one.sentence for one in reasons), *since), mend)

    def _own(self) -> PlannedDataset | None:
        """The dataset as the planner sees it; None while it is suspended."""
        return next((one for one in self.snapshot.datasets if one.id == self.view.number), None)

    def _mended(self, mend: str) -> str:
        return mend.replace("icp set DATASET", f"icp set {self.name}")

    def _limit(self, about: str, what: str, state: str = "waiting") -> Answer | None:
        """What a person said of the whole dataset keeps this from every site."""
        own = self._own()
        reason = None if own is None else planner.limit_reason(own, self.snapshot.classes)
        return None if reason is None else Answer(about, state, f"{what}: {reason.sentence}", (), self._mended(reason.mend))

    def _known(self) -> tuple[SiteView, ...]:
        return self.snapshot.sites

    def _held(self) -> list[Answer]:
        answers = []
        for low, high, word in views_jobs.spans(self.db, self.view.number, 0, self.view.jobs - 1)[:20]:
            if word in ("suspended", "cancelled"):
                mend = f"icp {'resume' if word == 'suspended' else 'reset'} {self.name} --jobs {low}-{high}"
                said = self._said("suspend" if word == "suspended" else "cancel", low)
                answers.append(Answer(f"jobs {low}-{high}", word, f"they were {word} before they began{said}", (), mend))
        ranges = views_jobs.spans(self.db, self.view.number, 0, self.view.jobs - 1)
        rows = self.view.suspended - sum((high - low + 1) * len(self.graph.tasks) for low, high, word in ranges if word == "suspended")
        if rows > 0 and self.view.state != "suspended":
            answers.append(self._answer(f"{plural(rows, 'task')} suspended{self._said('suspend')}", (), f"icp resume {self.name}", state="suspended"))
        if self.view.unreleased and self.view.state == "processing":
            what = f"{plural(self.view.unreleased, 'task')} not released yet"
            limit = self._limit(f"dataset {self.view.name}", what, "unreleased")
            answers.append(limit or self._answer(f"{what}: jobs become rows as sites have room for them", state="unreleased"))
        return answers

    def _idle(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        states = {one.task: one.states for one in views_jobs.definition_states(self.db, self.graph)}
        for one in self.graph.tasks:
            n = states[one.name].get("idle", 0)
            if n and (only is None or one.id == only.id):
                parents = [self.graph.defs[parent].name for parent in one.parents]
                evidence = tuple(f"{parent}: " + ", ".join(f"{m} {word}" for word, m in states[parent].items()) for parent in parents)
                stuck = [parent for parent in parents if states[parent].get("failed")]
                answers.append(Answer(f"task {one.name}", "idle", f"{plural(n, 'task')} until {' and '.join(parents)} of the same job is ok", evidence,
                                      f"icp retry {self.name} --task {stuck[0]}" if stuck else ""))  # fmt: skip
        return answers

    def _finals(self, only: TaskDefRow | None) -> list[Answer]:
        answers = []
        for one in views_jobs.unmade_finals(self.db, self.graph, 2):
            if only is None or one.task == only.name:
                where = f"final task {one.task}" + (f", group {one.key}" if one.key else "")
                answers.append(Answer(where, "unreleased", f"it waits for {plural(one.left, 'task')} of its {plural(one.jobs, 'job')}; {one.ok} are ok"
                                      if one.left else "its inputs are complete: the next tick makes it"))  # fmt: skip
        return answers

    def _coming(self) -> list[Answer]:
        if not self.view.coming:
            return []
        return [self._answer(f"{plural(self.view.coming, 'kept file')} still on the way home", (f"they will be in {self.view.outputs}",),
                             f"icp outputs {self.name} --missing", state="coming")]  # fmt: skip

    # -- a job --------------------------------------------------------------------------------------------------

    def job(self, job: int, only: TaskDefRow | None) -> list[Answer]:
        """Each of its tasks that is not ok; all of them if every one is; only the one that was asked for."""
        tasks = views_jobs.tasks(self.db, self.graph, job, job, task=only)
        if not tasks:
            return [self._no_rows(job, only), *(self._engine() if self.view.state == "processing" else [])]
        open_ = [one for one in tasks if one.state != "ok"]
        found = [self._task(one) for one in (tasks if only is not None or not open_ else open_)]
        if self.view.state == "suspended" and open_:
            found.insert(0, self._state())
        moving = any(one.state in ("idle", "waiting", "queued", "processing") for one in open_)
        return found + (self._engine() if moving and self.view.state == "processing" else [])

    def _no_rows(self, job: int, only: TaskDefRow | None) -> Answer:
        if job < 0:
            groups = views_jobs.unmade_finals(self.db, self.graph, 1 << 30)
            group = next((one for one in groups if one.group == -1 - job and (only is None or one.task == only.name)), None)
            if group is None:
                return Answer(f"job {job_text(job)}", "unknown", "this dataset has no such group of a final task, or none is counted yet")
            sentence = f"it waits for {plural(group.left, 'task')} of its {plural(group.jobs, 'job')}" if group.left else "the next tick makes it"
            return Answer(f"final task {group.task}", "unreleased", sentence, (), f"icp why {self.name}")
        about = f"job {job}"
        word = views_jobs.spans(self.db, self.view.number, job, job)[0][2]
        if word == "suspended":
            return Answer(about, word, f"it was suspended before it began{self._said('suspend', job)}", (), f"icp resume {self.name} --jobs {job}")
        if word == "cancelled":
            return Answer(about, word, f"it was cancelled before it began{self._said('cancel', job)}", (), f"icp reset {self.name} --jobs {job}")
        if self.view.state == "suspended":
            return Answer(about, "unreleased", f"the dataset is suspended: {self.view.reason}", (), f"icp resume {self.name}")
        limit = self._limit(about, "it is not released yet", "unreleased")
        if limit is not None:
            return limit
        waits = sum(one.n for one in self.snapshot.classes if one.dataset == self.view.number and one.state == Task.WAITING)
        evidence = (f"{plural(waits, 'task')} of the dataset {'waits' if waits == 1 else 'wait'} for a place before it",) if waits else ()
        sentence = "it is not released yet: jobs become rows as sites have room for them"
        return Answer(about, "unreleased", sentence, evidence, f"icp set {self.name} priority 10 --jobs {job}")

    def _task(self, task: TaskView) -> Answer:
        tries = views_jobs.attempts(self.db, task.id)
        about = f"task {task.task} in job {job_text(task.job, task.group)}"
        live = [one for one in tries if one.since is not None and not one.void]
        answer: Answer = getattr(self, f"_{task.state}_task")(_Case(about, task, tries, live[-1] if live else None))
        return answer

    def _select(self, task: TaskView) -> str:
        return f"{self.name} --job {job_text(task.job, task.group)} --task {task.task}"

    def _jobs_option(self, task: TaskView) -> str:
        return f"--task {task.task}" if task.job is None else f"--jobs {task.job} --task {task.task}"

    def _last_error(self, tries: list[AttemptView]) -> tuple[str, ...]:
        for one in reversed(tries):
            if one.kind is not None:
                exit_ = "" if one.exit is None else f", exit {one.exit}"
                ways = (f"`icp site check {shlex.quote(one.site)}` shows what its nodes have, docs/software.md what can be configured",)
                said = f"try {one.number} at site {one.site}: {one.kind}{exit_}, {output.ago(one.failed_at, self.now)}"
                return (said, *last_lines(one.text or ""), *(ways if one.kind == "software" else ()))
            if one.state in ("lost", "evicted"):
                return (f"try {one.number} at site {one.site} was {one.state}",)
        return ()

    def _waiting_task(self, case: _Case) -> Answer:
        error = self._last_error(case.tries)
        if self.view.state == "suspended":
            return Answer(case.about, "waiting", f"the dataset is suspended: {self.view.reason}", error, f"icp resume {self.name}")
        if case.task.not_before is not None and case.task.not_before > self.now:
            return Answer(case.about, "waiting", f"it failed, and goes again in {output.duration(case.task.not_before - self.now)}", error)
        need = self.snapshot.needs.get(case.task.need) or (read_needs(self.db, [case.task.need])[case.task.need] if case.task.need else None)
        travelling = self._travelling(case)
        if travelling:
            return Answer(case.about, "waiting", "it waits for inputs from another site", (*travelling, *error))
        shipped = tuple(f"{output.plain_size(size)} are being sent to site {site}" for size, site in cached.sent_for(self.db, -self.view.number))
        if shipped:
            return Answer(case.about, "waiting", "it waits for its files or its software, which are being sent to a site", (*shipped, *error))
        limit = self._limit(case.about, "it waits")
        return limit if limit is not None else self._placing(case.about, "it", need, case.task.zone, error)

    def _travelling(self, case: _Case) -> tuple[str, ...]:
        """Inputs of a task that are on their way home, to be sent on from there."""
        definition = self.graph.by_name(case.task.task)
        assert definition is not None
        if case.task.job is None:
            return ()
        parents = {one.parent for one in definition.inputs}
        names = {self.graph.defs[one].name for one in parents}
        accepted = [one.id for one in views_jobs.tasks(self.db, self.graph, case.task.job, case.task.job) if one.task in names and one.state == "ok"]
        lines = []
        for name, site, _, since in files.awaited(self.db, accepted):
            silent = f"{name} is at site {site}, which does not answer since {output.clock(since or 0)}"
            lines.append(f"{name} is brought home from site {site}" if since is None else silent)
        for size, site in cached.sent_for(self.db, case.task.id):
            lines.append(f"{output.plain_size(size)} are being sent to site {site}")
        return tuple(lines)

    def _idle_task(self, case: _Case) -> Answer:
        if case.task.job is None:
            return Answer(case.about, "idle", f"{plural(case.task.waiting_on, 'task')} of its jobs must be ok again first", (), f"icp why {self.name}")
        definition = self.graph.by_name(case.task.task)
        assert definition is not None
        states = {one.task: one.state for one in views_jobs.tasks(self.db, self.graph, case.task.job, case.task.job)}
        parents = [(self.graph.defs[parent].name, states.get(self.graph.defs[parent].name, "?")) for parent in definition.parents]
        open_ = [(name, state) for name, state in parents if state != "ok"]
        said = " and ".join(f"{name} ({state})" for name, state in open_)
        mend = f"icp retry {self.name} --jobs {case.task.job}" if any(state == "failed" for _, state in open_) else ""
        return Answer(case.about, "idle", f"it waits for {said} of the same job", tuple(f"{name} is {state}" for name, state in parents), mend)

    def _queued_task(self, case: _Case) -> Answer:
        live = case.live
        if live is None:
            return Answer(case.about, "queued", "it is queued, and no attempt of it is live", (), "icp ledger check")
        site = next((one for one in views.sites(self.db) if one.name == live.site), None)
        evidence = [f"card {live.card}, attempt {live.attempt}, queued for {output.duration(live.since or 0)} of observed time"]
        if site is not None:
            pilots = ", ".join(f"{n} {state}" for state, n in site.pilots.items()) or "none"
            what = "batch jobs" if site.direct else "pilots"
            evidence.append(f"{what} there: {pilots}; {site.busy} of {plural(site.slots, 'slot')} busy, {plural(site.queued, 'task')} queued")
            if not site.reachable:
                evidence.append(f"the site does not answer since {output.clock(site.unreachable_since)}")
        if live.stopping:
            evidence.append("its card is being recalled")
        own = next((one for one in views.pilots(self.db, card=live.card) if one.ended is None), None)
        if own is not None:
            words = {"submitting": "is not submitted yet", "pending": "waits in the queue"}
            waits = words.get(own.state, "runs, and what it did is told when it ends" if own.bag else "begins")
            said = f": {own.said}" if own.said and own.state in words else ""
            return Answer(case.about, "queued", f"its batch job{f' {own.job}' if own.job else ''} at site {live.site} {waits}{said}", tuple(evidence))
        return Answer(case.about, "queued", f"its card is at site {live.site} since {output.clock(live.made)}, and no agent has claimed it", tuple(evidence))

    def _processing_task(self, case: _Case) -> Answer:
        live = case.live
        if live is None:
            return Answer(case.about, "processing", "it is processing, and no attempt of it is live", (), "icp ledger check")
        where = f"at site {live.site}" + (f" on {live.host}" if live.host else "")
        since = "" if live.heard else f" for {output.duration(live.since or 0)} of observed time"
        evidence = [f"attempt {live.attempt}, {live.state}{since}", f"agent {live.agent}"]
        if live.agent_state is not None and live.agent_state != Agent.LIVE:
            silent = output.duration(live.agent_silent or 0)
            evidence.append(f"the agent is {Agent(live.agent_state).name.lower()}: no word of it for {silent} of observed time")
        if live.stopping:
            evidence.append("it was told to stop")
        if live.heard is not None:
            evidence.append(f"its batch job says so, of {output.clock(live.heard[1])} by the worker's clock; what counts comes when that ends")
        else:
            evidence.append(f"`icp logs {self._select(case.task)} -f` follows what it prints")
        verbs = {"queued": "took it", "claimed": "claimed it", "copying_input": "copies its inputs", "running": "runs it"}
        verb = verbs.get(live.state, "copies its outputs")
        return Answer(case.about, "processing", f"an agent {where} {verb} (card of {output.clock(live.made)})", tuple(evidence))

    def _ok_task(self, case: _Case) -> Answer:
        job = case.task.job if case.task.job is not None else -1 - (case.task.group or 0)
        files = list(views_results.outputs(self.db, self.graph, first=job, last=job, task=self.graph.by_name(case.task.task), every=True))
        evidence = tuple(
            f"{one.path} ({output.plain_size(one.bytes)}, verified)" if one.state == "home" and one.path
            else f"{one.name}: {one.state}" + (f" at site {one.site}, on its way to {one.path}" if one.path and one.state != "lost" else "")
            for one in files
        )  # fmt: skip
        mend = f"icp outputs {self.name} --job {job_text(case.task.job, case.task.group)}" if files else ""
        return Answer(case.about, "ok", f"it is done, by try {case.task.tries} at site {case.task.site}", evidence, mend)

    def _failed_task(self, case: _Case) -> Answer:
        kinds: dict[str, int] = {}
        for one in case.tries:
            word = one.kind or (one.state if one.state in ("lost", "evicted") else None)
            if word is not None and not one.void:
                kinds[word] = kinds.get(word, 0) + 1
        said = ", ".join(f"{n} {word}" for word, n in kinds.items())
        evidence = (*self._last_error(case.tries), f"`icp logs {self._select(case.task)}` has all it printed")
        return Answer(case.about, "failed", f"it failed as often as it may ({said})", evidence, f"icp retry {self.name} {self._jobs_option(case.task)}")

    def _suspended_task(self, case: _Case) -> Answer:
        said = self._said("suspend", case.task.job)
        evidence = (f"try {case.live.number} still runs at site {case.live.site}: if it ends well, that counts",) if case.live else ()
        return Answer(case.about, "suspended", f"it was suspended{said}", evidence, f"icp resume {self.name} {self._jobs_option(case.task)}")

    def _cancelled_task(self, case: _Case) -> Answer:
        said = self._said("cancel", case.task.job)
        if case.task.job is None and not said:
            return Answer(case.about, "cancelled", "none of its jobs is ok, so there is nothing for it to read", (), f"icp why {self.name}")
        mend = "" if self.view.state == "cancelled" else f"icp reset {self.name} {self._jobs_option(case.task)}"
        return Answer(case.about, "cancelled", f"it was cancelled{said}", (), mend)


def _covers(detail: str, job: int) -> bool:
    first, _, last = detail.partition(":")[0].partition("-")
    try:
        return int(first) <= job <= int(last or first)
    except ValueError:
        return True
