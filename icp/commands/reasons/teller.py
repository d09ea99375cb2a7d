"""What answers about a dataset and about its jobs share: its state, its limits, the engine, and why a need has no place (hides the planner)."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from icp import output, planner
from icp.commands.arguments import plural
from icp.commands.status import STALE, pid_lives
from icp.engine.shipments import lacking
from icp.ledger import views, views_jobs
from icp.ledger.definitions import Definitions, Graph
from icp.ledger.snapshot import read_needs, read_snapshot
from icp.model.plan import Deal, Release, Submit

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.views import DatasetView
    from icp.model.plan import Action
    from icp.model.plan import DatasetView as PlannedDataset

__all__ = ["GONE", "MENDS", "Answer", "Teller", "last_lines"]

MENDS = {"failed": "retry", "suspended": "resume", "cancelled": "reset"}
"""What lets something in this state go on."""
GONE = "it is not in the configuration any more, so nobody talks to it: put its table back (`icp site add`), or give up what is there"
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

    def answer(self, sentence: str, evidence: tuple[str, ...] = (), mend: str = "", about: str | None = None, state: str | None = None) -> Answer:
        return Answer(about or f"dataset {self.view.name}", state or self.view.state, sentence, evidence, mend)

    def state(self) -> Answer:
        view = self.view
        counts = [(view.ok, "ok"), (view.processing, "processing"), (view.queued, "queued"), (view.waiting, "waiting"), (view.idle, "idle"),
                  (view.unreleased, "unreleased"), (view.failed, "failed"), (view.suspended, "suspended"), (view.cancelled, "cancelled")]  # fmt: skip
        evidence = (f"{plural(view.tasks, 'task')}: " + (", ".join(f"{n:,} {word}" for n, word in counts if n) or "none yet"),)
        if view.state == "complete":
            done = "everything is done" if view.ok == view.tasks else "what was not cancelled is done" if view.ok else "everything was cancelled"
            return self.answer(f"{done}, and its outputs are home in {view.outputs}" if view.ok else done, evidence, f"icp outputs {self.name}")
        if view.state == "cancelled":
            said = self.said("cancel")
            return self.answer(f"it was cancelled{said}", evidence, f"icp show {self.name} --steering > again.toml && icp submit again.toml --name OTHER")
        if view.state == "suspended":
            stop_loss = (view.reason or "").startswith("stop-loss")
            hint = ("look at the error below first; `icp retry` sends what failed again",) if stop_loss else ()
            by = "" if stop_loss else self.said("suspend")
            sentence = f"it was suspended{by}" if by else view.reason or "it is suspended"
            return self.answer(sentence, (*evidence, *hint), f"icp resume {self.name}")
        if view.state == "errors":
            return self.answer(f"nothing moves any more: {plural(view.failed, 'task')} failed", evidence, f"icp retry {self.name}")
        moving = view.processing + view.queued
        if view.ok + view.cancelled == view.tasks:
            rest = "its outputs come home" if view.coming else "the next tick finds it complete"
            rest = rest if view.follows is None else f"more jobs come with outputs of dataset {view.follows}"
            return self.answer(f"nothing of it is left to be run{' yet' if not view.tasks else ''}: {rest}", evidence)
        return self.answer(f"{plural(moving, 'task')} at sites now" if moving else "none of it is at a site now", evidence)

    def said(self, what: str, job: int | None = None) -> str:
        """By whom and when, from the audit."""
        for one in reversed(views_jobs.commands(self.db, self.view.number)):
            if one.what == what and (job is None or one.detail is None or _covers(one.detail, job)):
                return f" by {one.who} at {output.clock(one.at)}"
        return ""

    def engine(self) -> list[Answer]:
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

    @cached_property
    def planned(self) -> list[Action]:
        """What a tick would decide on the ledger as it is."""
        return planner.plan(self.snapshot, self.config.policy, self.now)

    def placing(self, about: str, what: str, need: int, zone: int, since: tuple[str, ...] = (), task_def: int | None = None) -> Answer:
        """Why something with this need (0: it is to be rendered anew) is not at work, site by site."""
        verb = "waits" if what.startswith(("it", "1 ")) else "wait"
        if not need:
            return Answer(about, "waiting", f"{what} {verb} for the next tick, which looks anew at what it needs", since)
        asked = self.snapshot.needs.get(need) or read_needs(self.db, [need])[need]
        deals = {one.site for one in self.planned if isinstance(one, Deal) and (one.task_def, one.need, one.zone) == (task_def, need, zone)}
        submits = {one.site for one in self.planned if isinstance(one, Submit)}
        sites = self.snapshot.sites
        patience = self.config.policy.pending
        reasons = planner.explain(asked, sites, self.now, zone, self.own(), patience, deals=deals, submits=submits)
        away = planner.avoiding_reason(asked, sites, self.now, patience, self.own())
        if not reasons:
            return Answer(about, "waiting", f"{what} {verb} for a site: no tick has met one yet", since, "icp run")
        evidence = (*([away.sentence] if away else ()), *(one.sentence for one in reasons), *since)
        if not all(one.never for one in reasons):
            return Answer(about, "waiting", f"{what} {verb} for a place", evidence)
        return Answer(about, "waiting", f"{what} can run nowhere", evidence, self.mended(next((one.mend for one in reasons if one.mend), "")))

    def own(self) -> PlannedDataset | None:
        """The dataset as the planner sees it; None while it is suspended."""
        return next((one for one in self.snapshot.datasets if one.id == self.view.number), None)

    def may_use(self, site: str) -> bool:
        own = self.own()
        return own is None or own.sites is None or site in own.sites

    def release(self) -> str:
        """When jobs that nobody began get their turn."""
        n = sum(one.jobs for one in self.planned if isinstance(one, Release) and one.dataset == self.view.number)
        return f"the next tick releases {n:,} of them" if n else "jobs are released as sites have room for them"

    def mended(self, mend: str) -> str:
        return mend.replace("icp set DATASET", f"icp set {self.name}")

    def limit(self, about: str, what: str, state: str = "waiting") -> Answer | None:
        """What a person said of the whole dataset keeps this from every site."""
        own = self.own()
        reason = None if own is None else planner.limit_reason(own, self.snapshot.classes)
        return None if reason is None else Answer(about, state, f"{what}: {reason.sentence}", (), self.mended(reason.mend))


def _covers(detail: str, job: int) -> bool:
    first, _, last = detail.partition(":")[0].partition("-")
    try:
        return int(first) <= job <= int(last or first)
    except ValueError:
        return True
