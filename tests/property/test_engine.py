"""No sequence of facts, losses, duplicates, delays, deaths and commands breaks the ledger, and all that can be done gets done.

ICP_HYPOTHESIS=thorough runs many more histories.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, note, settings
from hypothesis import strategies as st

from icp.errors import Refused
from icp.model.definition import OutputDef
from icp.states import Dataset, Task
from tests.ledger.build import task
from tests.property.engine_scene import QUICK, Scene
from tests.property.slurm_simulation import SlurmSite

THOROUGH = os.environ.get("ICP_HYPOTHESIS") == "thorough"
HISTORIES = settings(
    deadline=None,
    max_examples=3000 if THOROUGH else 60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

A, B = task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"])
SHAPES = {
    "single": (A,),
    "no outputs": (task("a"), task("b", after=["a"])),
    "chain": (A, B, task("c", inputs=["b:b.txt"], outputs=["c.txt"])),
    "diamond": (
        A, task("l", inputs=["a:a.txt"], outputs=["l.txt"]), task("r", inputs=["a:a.txt"], outputs=["r.txt"]),
        task("j", inputs=["l:l.txt", "r:r.txt"], outputs=["j.txt"]),
    ),
    "patterns": (
        task("a", outputs=[OutputDef("p*.g", glob=True), OutputDef("maybe", optional=True)]),
        task("b", inputs=["a:p*.g", "a:maybe"], outputs=[OutputDef("q*.g", glob=True), OutputDef("kept", optional=True)]),
    ),
    "final": (A, B, task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True)),
    "groups": (
        A, task("b", inputs=["a:a.txt"], outputs=[OutputDef("b.txt", keep=False)]),
        task("sum", inputs=["a:a.txt[*]", "b:b.txt[*]"], outputs=["sum.txt"], final=True, group_by="$eval($args(job) // 2)"),
    ),
}  # fmt: skip

SMALL = st.integers(0, 5)
STRANGE = (
    {"f": "nonsense"}, {"f": 7}, {}, {"f": "ended"}, {"f": "ended", "a": 5, "k": []}, {"f": "claimed"}, {"f": "claimed", "card": "xyz"},
    {"f": "claimed", "card": 3}, {"f": "running", "a": "00", "k": "00"}, {"f": "started", "cpus": "many"}, {"f": "drain"}, {"f": ["ended"]},
    {"f": "started", "cpus": 10**30, "host": "h"}, {"f": "started", "cpus": 2, "memory": 10**12, "disk": 10**12, "attrs": {"\udc80": 1}},
    {"f": "started", "t": [1], "end": {}}, {"f": "started", "end": "soon"}, {"f": "started", "cpus": 2, "memory": 10**12, "disk": 10**12, "end": 1e999},
)  # fmt: skip
BENT = (
    {"r": "splendid"}, {"r": ["ok"]}, {"r": "ok", "out": "all"}, {"r": "ok", "out": [[0, "../x", 1, "00"]]}, {"r": "ok", "out": [[9, "x", 1, "0" * 64]]},
    {"r": "ok", "ph": ["a", 1, 2, 3]}, {"r": "ok", "ph": [1e999, 1, 2, 3]}, {"r": "error", "exit": 10**30}, {"r": "ok", "cpu": 1e999},
    {"r": "error", "kind": "payload", "err": "\udc80"}, {"r": "error", "kind": {}, "err": 5}, {"r": "ok", "out": [], "stats": {"\ud800": 1}},
    {"r": "evicted", "log": ["a", "b", "c"]}, {"r": "error", "exit": "one"}, {"r": "ok", "rss": 10**40}, {"r": "evicted", "log": [10**30, 1, 1]},
    {"r": "ok", "out": [[0, "a.txt", 10**30, "0" * 64]]}, {"r": "ok", "out": [[0, "a.txt", 1, "0" * 64]], "stats": {"x": 1e999, "y": 10**400}},
)  # fmt: skip

AGENT = st.sampled_from((
    "claim", "claim", "claim", "claim silently", "staging", "running", "storing", "ok", "ok", "ok", "payload", "resource", "stage", "node", "evicted",
    "returned", "cancelled", "stop", "die", "crash", "mute", "mute", "unmute", "tear", "beat", "strange", "bent", "wrong passkey", "other site", "twice",
))  # fmt: skip
CRASHES = (
    "engine.intent",
    "engine.outbox",
    "engine.sent",
    "engine.answered",
    "engine.ingested",
    "engine.home_renamed",
    "between transactions",
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.sampled_from((0.5, 1.0, 30.0, 61.0, 120.0, 400.0, 4000.0, 43200.0))),
        st.tuples(st.just("tick"), st.just(61.0)),
        st.tuples(st.just("tick"), st.just(61.0)),
        st.tuples(st.just("agent"), AGENT, SMALL, SMALL),
        st.tuples(st.just("agent"), AGENT, SMALL, SMALL),
        st.tuples(st.just("agent"), AGENT, SMALL, SMALL),
        st.tuples(st.just("work"), st.sampled_from(("claimed", "running", "ok", "ok", "error", "evicted")), SMALL),
        st.tuples(st.just("work"), st.sampled_from(("claimed", "running", "ok", "ok", "error", "evicted")), SMALL),
        st.tuples(st.just("pilot"), st.sampled_from(("start", "start", "start", "again", "end", "vanish", "unknown", "cut", "requeue")), SMALL),
        st.tuples(st.just("talk"), st.sampled_from(("unreachable", "answer lost", "late", "doubled", 0.2, 0.4, 0.6, 0.8, 0.95)), SMALL),
        st.tuples(
            st.just("site"),
            st.sampled_from((
                "late", "lose", "spoil", "batch down", "small", "reboot", "refused", "lost", "nothing", "purge", "relay",
                "twice", "kill fails", "deaf", "forgets", "late accounts", "no accounts", "accounts fail",
            )),
            SMALL,
        ),
        st.tuples(
            st.just("user"),
            st.sampled_from(("suspend", "resume", "cancel", "retry", "reset", "priority", "suspend all", "resume all", "raise")),
            SMALL, SMALL, st.integers(0, 7),
        ),
        st.tuples(st.just("crash"), st.sampled_from(CRASHES), st.integers(1, 9)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("quiet"), st.integers(1, 12)),
    ),
    min_size=25,
    max_size=90,
)  # fmt: skip


class History:
    """Carries out steps in a scene, each by small numbers that choose among what there is."""

    def __init__(self, scene: Scene, dataset: int, jobs: int, walltime: int | None = None) -> None:
        self.scene, self.dataset, self.jobs, self.walltime = scene, dataset, jobs, walltime
        self.sites = list(scene.sites.values())

    def __call__(self, step: tuple) -> None:
        getattr(self, step[0])(*step[1:])

    def tick(self, seconds: float) -> None:
        self.scene.tick(seconds)

    def quiet(self, n: int) -> None:
        """Exchanges go on, and no agent says anything: the way to suspect, fenced and lost."""
        for _ in range(n):
            self.scene.tick(120.0)

    def work(self, result: str, n: int) -> None:
        """Pilots start, and every agent takes up to ``n`` cards and gets so far with all that it has."""
        for site in self.sites:
            for job in site.all_jobs():
                if job.state == "pending":
                    site.start(job, walltime=self.walltime)
            for agent in site.at_work():
                for _ in range(n):
                    site.claim(agent)
                for work in agent.todo:
                    if result != "claimed":
                        site.progress(agent, work, "running")
                    if result in ("ok", "error", "evicted"):
                        site.end(agent, work, result, stats={"x": 1.5, "n": float(n)})

    def restart(self) -> None:
        self.scene.restart()

    def crash(self, point: str, visits: int) -> None:
        self.scene.crash = (point, visits)

    def talk(self, mode: object, i: int) -> None:
        self.scene.modes[self.sites[i % len(self.sites)].name] = mode

    def site(self, what: str, i: int) -> None:
        site = self.sites[i % len(self.sites)]
        if what == "late":
            self.scene.deliver_late()
        elif what in ("lose", "spoil") and site.store:
            keys = list(site.store)
            key = keys[i % len(keys)]
            if what == "lose":
                del site.store[key]
            else:
                site.store[key] = b"spoiled" + site.store[key][7:]
        elif what == "purge":
            site.blobs.clear()
        elif what == "relay" and (self.scene.folder / "relay").is_dir():
            for path in sorted((self.scene.folder / "relay").iterdir())[i:]:
                path.unlink()
        elif what == "batch down":
            site.asked_batch = not site.asked_batch
        elif what == "small":
            site.chunk = 700
        elif what == "reboot":
            site.host, site.boot, site.clock = f"login{i % 2}", f"boot{i}", site.clock - 1000 * i
        elif what in ("refused", "lost", "nothing", "twice"):
            site.submits.append(what)
        elif what in ("kill fails", "deaf"):
            site.kills.append("failed" if what == "kill fails" else what)
        elif isinstance(site, SlurmSite):
            if what == "forgets":
                site.forgot = not site.forgot
            elif "account" in what:
                site.accounting = {"late accounts": "late", "no accounts": "none", "accounts fail": "fails"}[what]

    def pilot(self, what: str, i: int) -> None:
        jobs = [(site, job) for site in self.sites for job in site.all_jobs()]
        if not jobs:
            return
        site, job = jobs[i % len(jobs)]
        if (what == "start" and job.state == "pending") or (what == "again" and job.agents):
            site.start(job, walltime=self.walltime)
        elif what in ("end", "cut", "vanish"):
            job.state, job.exit = ("absent", None) if what == "vanish" else ("ended", i)
            for agent in site.at_work(None):
                if agent.job is job:
                    site.die(agent, supervisor=what == "end")
        elif what == "unknown":
            job.state = "unknown"
        elif what == "requeue" and isinstance(site, SlurmSite) and job.state == "running":
            site.requeue(job)

    def agent(self, what: str, i: int, j: int) -> None:
        agents = [(site, agent) for site, agent in self.scene.live_agents() if agent.alive]
        if not agents:
            return
        site, agent = agents[i % len(agents)]
        todo = agent.todo
        work = todo[j % len(todo)] if todo else None
        if what in ("claim", "claim silently"):
            site.claim(agent, say=what == "claim")
        elif what == "unmute":
            agent.unmute()
        elif what == "mute":
            agent.muted = True
        elif what == "stop":
            site.stop(agent)
        elif what in ("die", "crash"):
            site.die(agent, supervisor=what == "die")
        elif what == "tear" and not agent.muted:
            agent.tear(j)
        elif what == "beat":
            agent.tell({"f": "beat"})
        elif what == "strange":
            agent.tell(STRANGE[(i * 6 + j) % len(STRANGE)])
        elif what == "twice" and agent.durable:
            agent.tell({key: value for key, value in agent.durable[-1 - j % len(agent.durable)].items() if key != "n"})
        elif work is None:
            return
        elif what in ("staging", "running", "storing"):
            site.progress(agent, work, what)
        elif what in ("payload", "resource", "stage", "node"):
            site.end(agent, work, "error", what, err=f"error {j}")
        elif what in ("ok", "evicted", "cancelled"):
            site.end(agent, work, what, stats={"x": float(j), "y": -0.1 * i})
        elif what == "returned" and work.phase == "claimed":
            site.end(agent, work, what)
        elif what == "bent":
            site.bent.add(work.spec["a"])
            site.said(agent, work, "ended", **BENT[(i * 6 + j) % len(BENT)])
        elif what == "wrong passkey":
            agent.tell({"f": "ended", "a": work.spec["a"], "k": "00" * 8, "r": "ok", "out": []})
        elif what == "other site":
            for other in self.sites:
                if other is not site:
                    for stranger in other.at_work():
                        stranger.tell({"f": "ended", "a": work.spec["a"], "k": work.spec["k"], "r": "ok", "out": []})

    def user(self, what: str, i: int, j: int, k: int) -> None:
        first, last = sorted((i % self.jobs, j % self.jobs))
        defs = list(self.scene.definitions.graph(self.dataset).defs)
        only = defs[k] if k < len(defs) else None
        control = self.scene.control(self.dataset)
        try:
            if what == "priority":
                control.prioritise_jobs(first, last, k - 3)
            elif what == "raise":
                control.set_priority(k)
            elif what == "suspend all":
                control.suspend()
            elif what == "resume all":
                control.resume()
            else:
                getattr(control, f"{what}_jobs")(first, last, only)
        except Refused as refused:
            event(f"refused: {what}")
            note(f"refused: {refused}")
        self.scene.verify()


def finish(scene: Scene, dataset: int) -> None:
    """Everything that is not cancelled becomes ok or failed; what failed did so at a limit, and a retry ends well."""
    scene.settle()
    if scene.state(dataset) == Dataset.SUSPENDED:
        scene.control(dataset).resume()
        scene.settle()
    jobs = scene.one("SELECT jobs FROM dataset WHERE id = ?", dataset)
    if scene.state(dataset) in (Dataset.PROCESSING, Dataset.COMPLETE):
        scene.control(dataset).resume_jobs(0, jobs - 1)
        finals = [one.id for one in scene.definitions.graph(dataset).finals]
        for final in finals:
            scene.control(dataset).resume_jobs(0, jobs - 1, final)
        scene.settle()
        if Task.FAILED in scene.states(dataset).values():
            scene.control(dataset).retry_jobs(0, jobs - 1)
            scene.settle()
    left = {key: state for key, state in scene.states(dataset).items() if state not in (Task.OK, Task.CANCELLED)}
    assert not left
    if scene.state(dataset) != Dataset.CANCELLED:
        assert scene.state(dataset) == Dataset.COMPLETE
        homes = scene.homes(dataset)
        produced = {
            (key, name): data
            for site in scene.sites.values()
            for key, files in site.produced.items()
            for name, data in files.items()
        }
        for key, name, job in scene.db.execute(
            "SELECT a.key, f.name, t.job FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.accepted = a.id "
            "WHERE f.kept = 1 AND f.state = 3 AND t.dataset = ?",
            (dataset,),
        ).fetchall():
            folder = f"{job:06d}" if job >= 0 else f"final/{-1 - job:06d}"
            assert homes[f"{folder}/{name}"] == produced[key.hex(), name]
        nothing_is_left(scene)


def nothing_is_left(scene: Scene) -> None:
    """When all is complete, neither the sites nor home hold anything that somebody may have read."""
    for _ in range(3):
        scene.tick(120.0)
    for site in scene.sites.values():
        assert site.blobs == set()
    assert scene.one("SELECT count(*) FROM cached") == scene.one("SELECT count(*) FROM cached_for") == scene.one("SELECT count(*) FROM unlinking") == 0
    for folder in (scene.folder / "relay", scene.folder / "incoming"):
        assert not folder.exists() or not list(folder.iterdir())


def leave(scene: Scene) -> None:
    """Nothing of a finished dataset stays in a queue, and a pilot never has two jobs that live."""
    for _ in range(40):
        for site in scene.sites.values():
            site.behave()
            for agent in site.at_work():
                if not agent.todo and not site.inbox:
                    site.stop(agent, "idle")
        scene.tick(120.0)
        alive = scene.one("SELECT count(*) FROM pilot WHERE live = 1")
        if not alive and not any(site.living() for site in scene.sites.values() if isinstance(site, SlurmSite)):
            return
    raise AssertionError(scene.db.execute("SELECT key, state, batch, word, stopping, others, missing FROM pilot WHERE live = 1").fetchall())


STRANDED = [("tick", 0.5)] * 2 + [("tick", 61.0), ("pilot", "end", 0)] + [("tick", 0.5)] * 8 + [
    ("site", "nothing", 2), ("tick", 61.0), ("crash", "engine.intent", 8), ("user", "resume", 0, 2, 0), ("work", "claimed", 2), ("tick", 61.0),
    ("agent", "die", 5, 4), ("agent", "other site", 0, 2), ("agent", "other site", 0, 1), ("talk", "doubled", 5), ("restart",), ("site", "nothing", 3),
    ("crash", "engine.answered", 6), ("user", "cancel", 3, 5, 1), ("quiet", 5), ("work", "ok", 5), ("crash", "engine.intent", 6), ("quiet", 8),
    ("talk", "doubled", 4), ("site", "deaf", 0), ("tick", 30.0), ("restart",),
]  # fmt: skip
"""A card lies at a site that lost its pilots, and only sites without pilots are beside it."""


@pytest.mark.long
@HISTORIES
@example(shape="chain", jobs=2, sites=("near", "far", "next"), slurm=True, walltime=None, direct=("near", "far"), bags=("near",), steps=STRANDED)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    jobs=st.integers(1, 6),
    sites=st.sampled_from((("near",), ("near", "far"), ("near", "far", "next"))),
    slurm=st.booleans(),
    walltime=st.sampled_from((None, 300, 4000)),
    direct=st.sampled_from(((), (), ("near",), ("far",), ("near", "far"))),
    bags=st.sampled_from(((), (), ("near",), ("far", "next"))),
    steps=STEPS,
)
def test_no_history_breaks_the_ledger_and_everything_ends(shape, jobs, sites, slurm, walltime, direct, bags, steps):
    with tempfile.TemporaryDirectory() as folder:
        # outputs that are not kept travel between them, over home; "next" shares a zone with "far"
        scene = Scene(Path(folder), sites=sites, zones={"next": "far"}, policy=replace(QUICK, stay=1.0), slurm=slurm, direct=direct, bags=bags)
        try:
            dataset = scene.submit(jobs, *SHAPES[shape])
            history = History(scene, dataset, jobs, walltime)
            for step in steps:
                history(step)
            finish(scene, dataset)
            leave(scene)
        finally:
            scene.close()
