"""`icp why` has a true sentence, and a command that exists, for everything in every state that a simulated site can bring it to."""

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.ledger import change, sites
from icp.model.definition import OutputDef, Resources
from icp.states import MACHINES, Agent, Attempt, Dataset, File, Pilot, Task
from tests.ledger.build import task
from tests.property.engine_scene import QUICK, Scene
from tests.property.test_engine import HISTORIES, SHAPES, STEPS, THOROUGH, History
from tests.property.why_laws import Asker, named

TICK = ("tick", 61.0)
RELAY = (task("a", outputs=[OutputDef("a.txt", keep=False)]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))
START = [("tick", 1.0), ("pilot", "start", 0), ("tick", 1.0)]
"""A pilot whose agent is there."""
CLAIMED = [*START, ("agent", "claim", 0, 0), ("tick", 1.0)]


class Told(History):
    """A history whose every step is followed by all questions."""

    def __init__(self, scene, dataset, jobs, walltime=None):
        super().__init__(scene, dataset, jobs, walltime)
        self.asker = Asker(scene)

    def __call__(self, step):
        name, *rest = step
        more = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        getattr(self, name)(*rest, **more)
        self.asker.everything()

    def foresee(self):
        self.asker.and_next_tick()
        self.asker.everything()

    # -- what only these histories do ---------------------------------------------------------------------------

    def behave(self, *names):
        for name in names or self.scene.sites:
            self.scene.sites[name].behave()
        self.scene.tick(61.0)

    def pause(self, name, drain=False):
        with self.scene.desk.write() as db:
            sites.pause(db, self.scene.one("SELECT id FROM site WHERE name = ?", name), "paused by its owner", drain=drain)

    def go_on(self, name):
        with self.scene.desk.write() as db:
            sites.resume(db, self.scene.one("SELECT id FROM site WHERE name = ?", name))
            # a card of the next task may lie elsewhere already
            db.execute("UPDATE attempt SET stop = 1 WHERE live = 1 AND state = 0")

    def login(self, name):
        with self.scene.desk.write() as db:
            number = self.scene.one("SELECT id FROM site WHERE name = ?", name)
            sites.unreachable(db, number, "Permission denied (keyboard-interactive)", self.scene.now, login=True)

    def cancel_dataset(self):
        self.scene.control(self.dataset).cancel()

    def reason(self, text):
        for job in self.sites[0].queue:
            job.reason = text

    def beats(self, n):
        """Agents talk, and say nothing of what they have."""
        for _ in range(n):
            for agent in self.sites[0].at_work():
                agent.tell({"f": "beat"})
            self.scene.tick(120.0)
            self.asker.pilots()

    def limit(self, **limits):
        """What a person says of the whole dataset."""
        control = self.scene.control(self.dataset)
        with self.scene.desk.write():
            if "most" in limits:
                change.set_max_running(control, limits["most"])
            if "sites" in limits:
                change.set_sites(control, limits["sites"])

    def no_software(self):
        (work,) = self.scene.live_agents()[0][1].todo
        self.sites[0].end(self.scene.live_agents()[0][1], work, "error", "software", err="environment root: no CVMFS here")
        self.scene.tick(1.0)

    def unconfigure(self, name):
        del self.scene.config.sites[name]
        self.scene.restart()

    def obey(self):
        """Agents that were told to drain say that they do."""
        self.sites[0].drained()
        self.scene.tick(1.0)

    def lose(self):
        for site in self.sites:
            site.store.clear()


@contextmanager
def told(jobs=1, shape=SHAPES["single"], walltime=None, stop_loss=0, **more):
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), **{"pilots": 1, "policy": replace(QUICK, backoff=(0,), stay=1.0), **more})
        try:
            yield Told(scene, scene.submit(jobs, *shape, stop_loss=stop_loss), jobs, walltime)
        finally:
            scene.close()


HISTORY = {
    "nothing happened": ((Dataset.PROCESSING,), {}, []),
    "a card lies there": ((Task.QUEUED, Attempt.QUEUED, Pilot.PENDING,), {}, [("tick", 1.0)]),
    "claimed": ((Task.PROCESSING, Attempt.CLAIMED, Agent.LIVE, Pilot.RUNNING,), {}, CLAIMED),
    "copies inputs": ((Attempt.COPYING_INPUT,), {}, [*CLAIMED, ("agent", "staging", 0, 0), ("tick", 1.0)]),
    "runs": ((Attempt.RUNNING,), {}, [*CLAIMED, ("agent", "running", 0, 0), ("tick", 1.0)]),
    "copies outputs": ((Attempt.COPYING_OUTPUT,), {}, [*CLAIMED, ("agent", "storing", 0, 0), ("tick", 1.0)]),
    "done": ((Task.OK, Attempt.OK, Dataset.COMPLETE, File.HOME,), {}, [*CLAIMED, ("agent", "ok", 0, 0), TICK, TICK]),
    "to be fetched": ((Task.OK, File.PRODUCED,), {}, [*CLAIMED, ("agent", "ok", 0, 0), ("tick", 1.0)]),
    "an error, and again": ((Task.WAITING, Attempt.ERROR,), {"policy": replace(QUICK, backoff=(600,))}, [*CLAIMED, ("agent", "payload", 0, 0), ("tick", 1.0)]),
    "as often as it may": ((Task.FAILED, Attempt.ERROR,), {}, [*START, *[("agent", "claim", 0, 0), ("agent", "payload", 0, 1), TICK] * 6]),
    "too little memory": ((Attempt.ERROR,), {}, [*START, *[("agent", "claim", 0, 0), ("agent", "resource", 0, 1), TICK] * 3]),
    "inputs that are not there": ((Attempt.ERROR,), {}, [*START, *[("agent", "claim", 0, 0), ("agent", "stage", 0, 1), TICK] * 3]),
    "evicted": ((Attempt.EVICTED,), {"policy": replace(QUICK, backoff=(0,))}, [*CLAIMED, ("agent", "running", 0, 0), ("agent", "stop", 0, 0), ("tick", 1.0)]),
    "given back": ((Attempt.RETURNED,), {}, [*CLAIMED, ("agent", "stop", 0, 0), ("tick", 1.0)]),
    "its agent died": ((Attempt.LOST, Agent.ENDED,), {}, [*CLAIMED, ("agent", "running", 0, 0), ("tick", 1.0), ("pilot", "end", 0), ("tick", 1.0)]),
    "no word of its agent": ((Agent.SUSPECT,), {}, [*CLAIMED, ("agent", "mute", 0, 0), ("quiet", 4)]),
    "fenced": ((Agent.FENCED,), {}, [
        *START, ("agent", "claim silently", 0, 0), ("user", "suspend", 0, 0, 7), ("tick", 1.0), ("user", "resume", 0, 0, 7), ("beats", 70)]),
    "suspended jobs": ((Task.SUSPENDED,), {"jobs": 9}, [("tick", 1.0), ("user", "suspend", 0, 1, 7), ("user", "suspend", 7, 8, 7), TICK]),
    "one suspended while it runs": ((Task.SUSPENDED,), {}, [*CLAIMED, ("user", "suspend", 0, 0, 7), TICK]),
    "cancelled jobs": ((Task.CANCELLED,), {"jobs": 9}, [("tick", 1.0), ("user", "cancel", 0, 1, 7), ("user", "cancel", 7, 8, 7), TICK]),
    "called back": ((Task.SUSPENDED, Task.WAITING, Attempt.RECALLED,), {}, [("tick", 1.0), ("user", "suspend", 0, 0, 7), TICK, ("user", "resume", 0, 0, 7)]),
    "stopped": (
        (Attempt.CANCELLED,), {}, [*CLAIMED, ("user", "suspend", 0, 0, 7), TICK, ("agent", "cancelled", 0, 0), TICK, ("user", "resume", 0, 0, 7)]),
    "a suspended dataset": ((Dataset.SUSPENDED,), {"jobs": 3, "shape": SHAPES["final"]}, [*CLAIMED, ("user", "suspend all", 0, 0, 0), TICK]),
    "a cancelled dataset": ((Dataset.CANCELLED,), {"jobs": 3, "shape": SHAPES["final"]}, [*CLAIMED, ("cancel_dataset",), TICK]),
    "all jobs are cancelled": ((Dataset.COMPLETE, Task.CANCELLED,), {"shape": SHAPES["final"]}, [("user", "cancel", 0, 0, 7), TICK, TICK]),
    "stop-loss": ((Dataset.SUSPENDED,), {"jobs": 3, "stop_loss": 2}, [*START, *[("agent", "claim", 0, 0), ("agent", "payload", 0, 1), TICK] * 2]),
    "a parent failed": ((Task.IDLE, Task.FAILED,), {"shape": SHAPES["chain"]}, [*START, *[("agent", "claim", 0, 0), ("agent", "payload", 0, 1), TICK] * 6]),
    "a final task": ((Task.IDLE, Task.OK,), {"shape": SHAPES["groups"], "jobs": 4}, [("behave",)] * 12 + [("user", "reset", 0, 1, 0), TICK]),
    "travels over home": (
        (File.RELAYING, File.DROPPED,), {"shape": RELAY, "jobs": 2, "sites": ("near", "far")},
        [("pause", "far"), *[("behave", "near")] * 2, ("pause", "near"), ("go_on", "far"), ("talk", "unreachable", 0), TICK, *[("behave",)] * 8]),
    "lost at its site": ((File.LOST,), {}, [*CLAIMED, ("agent", "ok", 0, 0), ("lose",), *[("tick", 1.0)] * 4]),
    "comes home in parts": ((File.COLLECTING,), {}, [*CLAIMED, ("agent", "ok", 0, 0), ("tick", 1.0), ("talk", "unreachable", 0), ("tick", 1.0)]),
    "no receipt yet": ((Pilot.SUBMITTING,), {}, [("site", "nothing", 0), ("tick", 1.0), *[("quiet", 3)] * 6]),
    "refused": ((Pilot.FAILED,), {}, [("site", "refused", 0), ("tick", 1.0), TICK]),
    "ended before it began": ((Pilot.FAILED,), {}, [("tick", 1.0), ("pilot", "cut", 0), *[("tick", 1.0)] * 3]),
    "the batch system forgot it": ((Pilot.LOST,), {}, [*CLAIMED, ("pilot", "vanish", 0), *[("quiet", 6)] * 5]),
    "done its work": ((Pilot.DONE,), {}, [*CLAIMED, ("behave",), ("agent", "stop", 0, 0), TICK, ("behave",), TICK]),
    "told to end": ((Pilot.DRAINING,), {}, [*CLAIMED, ("agent", "running", 0, 0), ("pause", "near", True), TICK, ("obey",)]),
    "called off": ((Pilot.CANCELLED,), {}, [("tick", 1.0), ("user", "cancel", 0, 0, 7), *[TICK] * 4]),
    "waits for what never comes": ((Pilot.CANCELLED,), {"slurm": True}, [("tick", 1.0), ("reason", "PartitionTimeLimit"), *[("quiet", 2)] * 5]),
    "held by its person": ((Pilot.PENDING,), {"slurm": True}, [("tick", 1.0), ("reason", "JobHeldUser"), ("quiet", 2)]),
    "an unreachable site": (
        (Task.PROCESSING,), {"jobs": 3}, [*CLAIMED, *[("talk", "unreachable", 0), TICK] * 2, ("login", "near")]),
    "a paused site": ((Task.WAITING,), {}, [("tick", 1.0), ("pause", "near"), ("user", "reset", 0, 0, 7), TICK, TICK]),
    "too long for every pilot": ((Task.WAITING,), {"shape": (replace(task("a"), resources=Resources(time=9000)),), "limit": 3600}, [("tick", 1.0), TICK]),
    "as many as it may run": (
        (Task.WAITING, Task.QUEUED), {"jobs": 3}, [("limit", {"most": 1}), ("tick", 1.0), ("user", "reset", 0, 2, 7), ("limit", {"most": 1}), TICK, TICK]),
    "not at this site": ((Task.WAITING,), {"sites": ("near", "far"), "jobs": 1}, [
        ("pause", "near"), ("limit", {"sites": ["near"]}), TICK, ("user", "priority", 0, 0, 7), ("limit", {"sites": []}), TICK]),
    "no such software": ((Attempt.ERROR, Task.WAITING), {"policy": replace(QUICK, backoff=(600,))}, [*CLAIMED, ("no_software",)]),
    "a site that is configured no more": ((Task.QUEUED,), {"sites": ("near", "far"), "jobs": 4}, [*[("tick", 1.0)] * 2, ("unconfigure", "near"), TICK]),
    "... where something runs": ((Task.PROCESSING,), {"sites": ("near", "far")}, [*CLAIMED, ("unconfigure", "near"), TICK]),
    "facts that make no sense": ((Task.PROCESSING,), {}, [*CLAIMED, ("agent", "strange", 0, 0), ("agent", "wrong passkey", 0, 0), TICK]),
    "one batch job for each card": ((Task.QUEUED, Attempt.QUEUED,), {"direct": ("near",), "jobs": 3}, [("tick", 1.0), ("behave",), ("behave",)]),
    "cards that travel with their jobs": (
        (Task.QUEUED, Task.OK,), {"bags": ("near",), "jobs": 2, "shape": SHAPES["chain"]}, [("tick", 1.0), ("pilot", "start", 0), TICK, *[("behave",)] * 6]),
}  # fmt: skip
"""A history for each thing that may happen -> the states of which an answer has to tell on the way."""


@pytest.mark.parametrize("name", HISTORY)
def test_why_tells_of_each_thing_that_happens(name):
    expected, given_, steps = HISTORY[name]
    more = dict(given_)
    if "limit" in more:
        # the site's walltime; ``walltime`` is that of its agents
        more["policy"] = QUICK
    limit = more.pop("limit", None)
    with told(**more) as history:
        if limit is not None:
            site = history.scene.config.sites["near"]
            history.scene.config.sites["near"] = replace(site, pilot=replace(site.pilot, walltime=limit))
            history.scene.restart()
        history.asker.everything()
        for step in steps:
            history(step)
        history.foresee()
        assert {*map(named, expected)} <= history.asker.reached


NEVER_ROWS = {Pilot.PLANNED}
"""A pilot is written down with the order that submits it."""


def test_the_histories_tell_of_every_state_that_there_is():
    every = {named(state) for machine in MACHINES for state in machine.states}
    assert every - {named(state) for expected, _, _ in HISTORY.values() for state in expected} == {named(state) for state in NEVER_ROWS}


@pytest.mark.long
@settings(HISTORIES, max_examples=1500 if THOROUGH else 25)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    jobs=st.integers(1, 4),
    there=st.sampled_from((("near",), ("near", "far"))),
    slurm=st.booleans(),
    walltime=st.sampled_from((None, 300, 4000)),
    direct=st.sampled_from(((), (), ("near",))),
    bags=st.sampled_from(((), (), ("far",))),
    steps=STEPS,
    every=st.integers(5, 9),
)
def test_why_has_a_true_answer_at_any_moment_of_any_history(shape, jobs, there, slurm, walltime, direct, bags, steps, every):
    more = {"sites": there, "slurm": slurm, "direct": direct, "bags": bags, "pilots": 2, "policy": replace(QUICK, stay=1.0)}
    with told(jobs, SHAPES[shape], walltime, **more) as history:
        for at, step in enumerate(steps):
            History.__call__(history, step)
            if at % every == 0:
                history.asker.everything()
            if at % (2 * every) == every:
                history.asker.and_next_tick()
        history.foresee()
