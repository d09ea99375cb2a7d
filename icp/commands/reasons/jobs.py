"""Why a job or a task is in its state: what `icp why DATASET --job N` says (hides where the evidence lies)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icp import output, planner
from icp.commands.arguments import job_text, plural
from icp.commands.reasons.teller import GONE, MENDS, Answer, Teller, last_lines
from icp.ledger import cached, files, views, views_jobs, views_results
from icp.states import Agent, Task

if TYPE_CHECKING:
    from icp.ledger.definitions import TaskDefRow
    from icp.ledger.views_jobs import AttemptView, TaskView

__all__ = ["JobTeller"]

ENDED = {
    "error": "failed", "evicted": "was evicted: its agent had to leave while it ran", "returned": "was given back before it began",
    "cancelled": "was stopped, as it was ordered", "recalled": "was called back before it began",
    "lost": "was lost: its agent was heard of no more",
}  # fmt: skip
"""States of an attempt that came to nothing, in words."""
AT_WORK = {"queued": "took it", "claimed": "claimed it", "copying_input": "copies its inputs", "running": "runs it", "copying_output": "copies its outputs"}
FILES = {
    "produced": "at site {site}, not fetched yet", "relaying": "on its way from site {site}, to be sent on to another site",
    "collecting": "on its way home from site {site}", "home": "home, verified", "lost": "lost at site {site}",
    "dropped": "removed: nobody reads it any more",
}  # fmt: skip


@dataclass(frozen=True)
class _Case:
    """A task, all its attempts, and the live one that counts."""

    about: str
    task: TaskView
    tries: list[AttemptView]
    live: AttemptView | None


class JobTeller(Teller):
    """Answers about one job of a dataset, task by task."""

    def job(self, job: int, only: TaskDefRow | None) -> list[Answer]:
        """Each of its tasks that is not ok; all of them if every one is; only the one that was asked for."""
        tasks = views_jobs.tasks(self.db, self.graph, job, job, task=only)
        if not tasks:
            return [self._no_rows(job, only), *(self.engine() if self.view.state == "processing" else [])]
        open_ = [one for one in tasks if one.state != "ok"]
        found = [self._task(one) for one in (tasks if only is not None or not open_ else open_)]
        if self.view.state == "suspended" and open_:
            found.insert(0, self.state())
        moving = any(one.state in ("idle", "waiting", "queued", "processing") for one in open_)
        return found + (self.engine() if moving and self.view.state == "processing" else [])

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
            return Answer(about, word, f"it was suspended before it began{self.said('suspend', job)}", (), f"icp resume {self.name} --job {job}")
        if word == "cancelled":
            return Answer(about, word, f"it was cancelled before it began{self.said('cancel', job)}", (), f"icp reset {self.name} --job {job}")
        if self.view.state == "suspended":
            return Answer(about, "unreleased", f"the dataset is suspended: {self.view.reason}", (), f"icp resume {self.name}")
        limit = self.limit(about, "it is not released yet", "unreleased")
        if limit is not None:
            return limit
        waits = sum(one.n for one in self.snapshot.classes if one.dataset == self.view.number and one.state == Task.WAITING)
        evidence = (f"{plural(waits, 'task')} of the dataset {'waits' if waits == 1 else 'wait'} for a place before it",) if waits else ()
        sentence = f"it is not released yet: {self.release()}"
        return Answer(about, "unreleased", sentence, evidence, f"icp set {self.name} priority 10 --job {job}")

    def _task(self, task: TaskView) -> Answer:
        tries = views_jobs.attempts(self.db, task.id)
        about = f"task {task.task} in job {job_text(task.job, task.group)}"
        live = [one for one in tries if one.since is not None and not one.void]
        answer: Answer = getattr(self, f"_{task.state}_task")(_Case(about, task, tries, live[-1] if live else None))
        return answer

    def _select(self, task: TaskView) -> str:
        return f"{self.name} --job {job_text(task.job, task.group)} --task {task.task}"

    def _jobs_option(self, task: TaskView) -> str:
        return f"--task {task.task}" if task.job is None else f"--job {task.job} --task {task.task}"

    def _before(self, tries: list[AttemptView]) -> tuple[str, ...]:
        """What became of the last try that ended: an error, or why it came to nothing, or what it made and was lost."""
        for one in reversed(tries):
            if one.kind is not None:
                exit_ = "" if one.exit is None else f", exit {one.exit}"
                ways = (f"`icp site check {shlex.quote(one.site)}` shows what its nodes have, docs/software.md what can be configured",)
                said = f"try {one.number} at site {one.site}: {one.kind}{exit_}, {output.ago(one.failed_at, self.now)}"
                return (said, *last_lines(one.text or ""), *(ways if one.kind == "software" else ()))
            if one.state in ENDED:
                return (f"try {one.number} at site {one.site} {ENDED[one.state]}",)
            if one.state == "ok" and one.void:
                lost = views_results.lost(self.db, one.id)
                gone = f"what it made is lost there ({', '.join(lost)})" if lost else "it counts no more, as it was ordered anew"
                return (f"try {one.number} at site {one.site} was ok, and {gone}",)
        return ()

    def _waiting_task(self, case: _Case) -> Answer:
        error = self._before(case.tries)
        if self.view.state == "suspended":
            return Answer(case.about, "waiting", f"the dataset is suspended: {self.view.reason}", error, f"icp resume {self.name}")
        if case.task.not_before is not None and case.task.not_before > self.now:
            return Answer(case.about, "waiting", f"it failed, and goes again in {output.duration(case.task.not_before - self.now)}", error)
        travelling = self._travelling(case)
        if travelling:
            return Answer(case.about, "waiting", "it waits for inputs from another site", (*travelling, *error))
        shipped = tuple(f"{output.plain_size(size)} are being sent to site {site}" for size, site in cached.sent_for(self.db, -self.view.number))
        if shipped:
            return Answer(case.about, "waiting", "it waits for its files or its software, which are being sent to a site", (*shipped, *error))
        limit = self.limit(case.about, "it waits")
        return limit if limit is not None else self.placing(case.about, "it", case.task.need, case.task.zone, error, self._definition(case).id)

    def _definition(self, case: _Case) -> TaskDefRow:
        definition = self.graph.by_name(case.task.task)
        assert definition is not None
        return definition

    def _travelling(self, case: _Case) -> tuple[str, ...]:
        """Inputs of a task that are on their way home, to be sent on from there."""
        definition = self._definition(case)
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
        definition = self._definition(case)
        states = {one.task: one.state for one in views_jobs.tasks(self.db, self.graph, case.task.job, case.task.job)}
        parents = [(self.graph.defs[parent].name, states.get(self.graph.defs[parent].name, "?")) for parent in definition.parents]
        open_ = [(name, state) for name, state in parents if state != "ok"]
        said = " and ".join(f"{name} ({state})" for name, state in open_)
        mend = next((f"icp {MENDS[state]} {self.name} --job {case.task.job}" for _, state in open_ if state in MENDS), "")
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
            if site.waits:
                evidence.append(f"the batch system says of those that wait: {site.waits}")
        if live.stopping:
            evidence.append("its card is being recalled")
        kept, mend = self._kept_there(live.site)
        evidence += kept
        own = next((one for one in views.pilots(self.db, card=live.card) if one.ended is None), None)
        if own is not None:
            words = {"submitting": "is not submitted yet", "pending": "waits in the queue"}
            waits = words.get(own.state, "runs, and what it did is told when it ends" if own.bag else "begins")
            said = f": {own.said}" if own.said and own.word == "pending" and own.state in words else ""
            return Answer(case.about, "queued", f"its batch job{f' {own.job}' if own.job else ''} at site {live.site} {waits}{said}", tuple(evidence), mend)
        sentence = f"its card is at site {live.site} since {output.clock(live.made)}, and no agent has claimed it"
        return Answer(case.about, "queued", sentence, tuple(evidence), mend)

    def _kept_there(self, name: str) -> tuple[list[str], str]:
        """Why a site does not begin what waits there, and what mends it; nothing where it only takes its turn."""
        site = next((one for one in self.snapshot.sites if one.name == name), None)
        if site is None:
            return [f"site {name}: {GONE}"], f"icp site remove {shlex.quote(name)} --force"
        if any(agent.takes for agent in site.agents) and site.reachable:
            return [], ""
        reason = planner.standing(site) or planner.pilots_reason(site, self.now)
        return ([], "") if reason is None else ([reason.sentence], reason.mend)

    def _processing_task(self, case: _Case) -> Answer:
        live = case.live
        if live is None:
            return Answer(case.about, "processing", "it is processing, and no attempt of it is live", (), "icp ledger check")
        where = f"at site {live.site}" + (f" on {live.host}" if live.host else "")
        since = "" if live.heard else f" for {output.duration(live.since or 0)} of observed time"
        evidence = [f"attempt {live.attempt}, {live.state.replace('_', ' ')}{since}", f"agent {live.agent}"]
        if live.agent_state is not None and live.agent_state != Agent.LIVE:
            silent = output.duration(live.agent_silent or 0)
            evidence.append(f"the agent is {Agent(live.agent_state).name.lower()}: no word of it for {silent} of observed time")
        if live.stopping:
            evidence.append("it was told to stop")
        site = next((one for one in self.snapshot.sites if one.name == live.site), None)
        away, mend = self._kept_there(live.site) if site is None or not site.reachable else ([], "")
        evidence += away
        if live.heard is not None:
            evidence.append(f"its batch job says so, of {output.clock(live.heard[1])} by the worker's clock; what counts comes when that ends")
        else:
            evidence.append(f"`icp logs {self._select(case.task)} -f` follows what it prints")
        return Answer(case.about, "processing", f"an agent {where} {AT_WORK[live.state]} (card of {output.clock(live.made)})", tuple(evidence), mend)

    def _ok_task(self, case: _Case) -> Answer:
        job = case.task.job if case.task.job is not None else -1 - (case.task.group or 0)
        files = list(views_results.outputs(self.db, self.graph, first=job, last=job, task=self.graph.by_name(case.task.task), every=True))
        evidence = tuple(
            f"{one.path if one.state == 'home' and one.path else one.name} ({output.plain_size(one.bytes)}): {FILES[one.state].format(site=one.site)}"
            for one in files
        )
        mend = f"icp outputs {self.name} --job {job_text(case.task.job, case.task.group)}" if files else ""
        return Answer(case.about, "ok", f"it is done, by try {case.task.tries} at site {case.task.site}", evidence, mend)

    def _failed_task(self, case: _Case) -> Answer:
        kinds: dict[str, int] = {}
        for one in case.tries:
            word = one.kind or (one.state if one.state in ("lost", "evicted") else None)
            if word is not None and not one.void:
                kinds[word] = kinds.get(word, 0) + 1
        said = ", ".join(word if n == 1 else f"{n} times {word}" for word, n in kinds.items())
        evidence = (*self._before(case.tries), f"`icp logs {self._select(case.task)}` has all it printed")
        return Answer(case.about, "failed", f"it failed as often as it may ({said})", evidence, f"icp retry {self.name} {self._jobs_option(case.task)}")

    def _suspended_task(self, case: _Case) -> Answer:
        said = self.said("suspend", case.task.job)
        evidence = (f"try {case.live.number} still runs at site {case.live.site}: if it ends well, that counts",) if case.live else ()
        return Answer(case.about, "suspended", f"it was suspended{said}", evidence, f"icp resume {self.name} {self._jobs_option(case.task)}")

    def _cancelled_task(self, case: _Case) -> Answer:
        said = self.said("cancel", case.task.job)
        if case.task.job is None and not said:
            return Answer(case.about, "cancelled", "none of its jobs is ok, so there is nothing for it to read", (), f"icp why {self.name}")
        mend = "" if self.view.state == "cancelled" else f"icp reset {self.name} {self._jobs_option(case.task)}"
        return Answer(case.about, "cancelled", f"it was cancelled{said}", (), mend)
