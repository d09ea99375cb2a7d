"""Whatever agents report and people order, in whatever order: the ledger stays true to itself, and a clean run afterwards ends well."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from icp.ledger import cards, files, pilots, sites
from icp.ledger.check import check
from icp.model.batch import Known
from icp.model.plan import Policy
from icp.states import Dataset, Task
from tests.ledger.build import World, task

SHAPES = {
    "single": (task("a", outputs=["a.txt"], max_tries=2),),
    "chain": (task("a", outputs=["a.txt"], max_tries=2), task("b", inputs=["a:a.txt"], outputs=["b.txt"]), task("c", inputs=["b:b.txt"])),
    "diamond": (
        task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"], max_tries=1), task("c", after=["a"], outputs=["c.txt"]),
        task("d", inputs=["b:b.txt", "c:c.txt"], outputs=["d.txt"]),
    ),
    "final": (
        task("a", outputs=["a.txt"], max_tries=2), task("b", inputs=["a:a.txt"], outputs=["b.txt"]),
        task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True, max_tries=2),
    ),
    "groups": (
        task("a", outputs=["a.txt"], max_tries=2),
        task("each", inputs=["a:a.txt[*]"], outputs=["e.txt"], final=True, group_by="g"),
        task("all", inputs=["a:a.txt[*]"], outputs=["all.txt"], final=True),
    ),
}  # fmt: skip
JOBS = 5
ONE = st.integers(0, 1 << 30)
SPAN = st.tuples(st.integers(0, JOBS - 1), st.integers(0, JOBS - 1)).map(sorted)


class History(RuleBasedStateMachine):
    """A person, an engine and one site with agents that do what they like."""

    @initialize(shape=st.sampled_from(sorted(SHAPES)), stop_loss=st.sampled_from([0, 3]))
    def begin(self, shape, stop_loss):
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), policy=Policy(backoff=(0,), claimed=50, queued=100, silent=30))
        self.dataset = self.world.submit(JOBS, *SHAPES[shape], stop_loss=stop_loss)
        self.graph = self.world.definitions.graph(self.dataset)
        self.agents = [self.world.agent()]
        self.asked = []
        self.fenced = []
        self.changed = True

    def teardown(self):
        if hasattr(self, "world"):
            try:
                self.ends_well()
            finally:
                self.world.close()
                self.folder.cleanup()

    def state(self):
        return Dataset(self.world.db.execute("SELECT state FROM dataset WHERE id = ?", (self.dataset,)).fetchone()[0])

    def some(self, choice, things):
        return things[choice % len(things)] if things else None

    def attempts(self):
        """Every attempt that was ever dealt: agents may speak of any, ended or not."""
        return sorted(self.world.tries.values(), key=lambda one: one.key)

    # -- the engine -----------------------------------------------------------------------------------------------

    @rule(n=st.integers(1, JOBS))
    def release(self, n):
        if self.state() == Dataset.PROCESSING:
            self.world.release(self.dataset, n)

    @rule()
    def make_finals(self):
        self.world.finals()

    @rule(n=st.integers(1, 6), per_card=st.integers(1, 3))
    def deal(self, n, per_card):
        if self.state() == Dataset.PROCESSING:
            self.world.deal(self.dataset, n, per_card=per_card)

    @rule()
    def bring_home(self):
        self.world.home()

    @rule(choice=ONE)
    def lose_a_file(self, choice):
        world = self.world
        with world.ledger.write():
            wanted = files.coming(world.db, 1, 10)
            one = self.some(choice, wanted)
            if one is not None:
                fold = world.fold()
                files.missing(fold, one)
                fold.flush()

    @rule()
    def complete(self):
        self.world.finish(self.dataset)

    @rule()
    def order_stops(self):
        with self.world.ledger.write():
            fold = self.world.fold()
            recall, _ = cards.stops(fold, 1)
            fold.flush()
        self.asked += recall

    # -- the site -------------------------------------------------------------------------------------------------

    @rule()
    def start_agent(self):
        if len(self.agents) < 3:
            self.agents.append(self.world.agent())

    @rule(choice=ONE, who=ONE)
    def claim(self, choice, who):
        taken = {card for agent in self.agents for card in agent.cards} | set(self.asked)
        free = [one for one in self.attempts() if one.card not in taken]
        one, agent = self.some(choice, free), self.some(who, self.agents)
        if one is not None and agent.name not in self.fenced:
            self.world.claim(agent, one)

    @rule(choice=ONE, who=ONE)
    def run(self, choice, who):
        one, agent = self.some(choice, self.attempts()), self.some(who, self.agents)
        if one is not None:
            self.world.running(agent, one)

    @rule(choice=ONE, who=ONE, kind=st.sampled_from(["payload", "resource", "stage", "node"]), text=st.sampled_from(["one", "other"]))
    def fail(self, choice, who, kind, text):
        one, agent = self.some(choice, self.attempts()), self.some(who, self.agents)
        if one is not None:
            self.world.ended(agent, one, result="error", kind=kind, err=text)

    @rule(choice=ONE, who=ONE, result=st.sampled_from(["evicted", "returned", "cancelled"]))
    def give_up(self, choice, who, result):
        one, agent = self.some(choice, self.attempts()), self.some(who, self.agents)
        if one is not None:
            self.world.ended(agent, one, result=result)

    @rule(choice=ONE, who=ONE, value=st.floats(-1e6, 1e6), without=st.booleans())
    def succeed(self, choice, who, value, without):
        one, agent = self.some(choice, self.attempts()), self.some(who, self.agents)
        if one is not None:
            self.world.ended(agent, one, stats=None if without else {"x": value, "n": 1})

    @rule(who=ONE)
    def agent_stops(self, who):
        agent = self.some(who, self.agents)
        agent.cards.clear()
        agent.note({"f": "stopped"})
        self.world.answer(agent)

    @rule(who=ONE)
    def agent_dies(self, who):
        agent = self.some(who, self.agents)
        agent.note_supervisor({"f": "agent_died"})
        self.world.answer(agent)

    @rule(seconds=st.sampled_from([1.0, 40.0, 119.0]))
    def time_passes(self, seconds):
        """An exchange in which no journal grew."""
        self.world.answer(seconds=seconds)

    @rule()
    def answer_recalls(self):
        """What nobody had claimed comes back with the answer to the orders."""
        taken = {card for agent in self.agents for card in agent.cards}
        words = {card: "claimed" if card in taken else "recalled" for card in self.asked}
        db = self.world.db
        with self.world.ledger.write():
            serial = cards.put_outbox(db, 1, [b"x"], self.world.now)
        self.world.answer(applied={"serial": serial, "recall": words})
        self.asked.clear()

    @rule(who=ONE, batch_ended=st.booleans())
    def fence(self, who, batch_ended):
        agent = self.some(who, self.agents)
        db = self.world.db
        with self.world.ledger.write():
            db.execute("UPDATE agent SET fence = 1 WHERE name = ? AND state IN (0, 1)", (agent.name,))
            ordered = sites.fences(db, 1, self.world.policy)
            serial = cards.put_outbox(db, 1, [b"x"], self.world.now)
        fence = {}
        for name in ordered:
            cards_there = self.world.agents[name].cards
            fence[name] = {"began": cards_there[:1], "unbegun": cards_there[1:]}
            del cards_there[1:]
        self.fenced += list(fence)
        self.world.answer(applied={"serial": serial, "fence": fence})
        if batch_ended:
            with self.world.ledger.write():
                row = db.execute("SELECT hex(p.key) FROM pilot p JOIN agent g ON g.pilot = p.id WHERE g.name = ?", (agent.name,)).fetchone()
                pilots.settle_pilots(db, 1, {row[0].lower(): Known("ended", exit=0)}, self.world.now)
            self.world.answer()

    # -- the person -----------------------------------------------------------------------------------------------

    def order(self, what, *arguments):
        if self.state() != Dataset.CANCELLED:
            getattr(self.world.control(self.dataset), what)(*arguments)

    @rule(span=SPAN, which=ONE, narrow=st.booleans(), what=st.sampled_from(["suspend_jobs", "resume_jobs", "cancel_jobs", "reset_jobs", "retry_jobs"]))
    def order_jobs(self, span, which, narrow, what):
        only = self.some(which, sorted(self.graph.defs)) if narrow else None
        self.order(what, *span, only)

    @rule(span=SPAN, value=st.integers(0, 9))
    def prioritise(self, span, value):
        self.order("prioritise_jobs", *span, value)

    @rule()
    def suspend(self):
        if self.state() == Dataset.PROCESSING:
            self.order("suspend")

    @rule()
    def resume(self):
        self.order("resume")

    @precondition(lambda self: len(self.world.tries) > 6)
    @rule()
    def cancel(self):
        if self.state() in (Dataset.PROCESSING, Dataset.SUSPENDED):
            self.order("cancel")

    # -- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_ledger_is_true_to_itself(self):
        assert check(self.world.ledger) == []

    def ends_well(self):
        """Everything is released from a person's hands, and all that is left is done."""
        world = self.world
        if self.state() == Dataset.CANCELLED:
            return
        world.control(self.dataset).resume()
        world.control(self.dataset).retry_jobs(0, JOBS - 1)
        for _ in range(3):
            world.answer(seconds=1)
            with world.ledger.write():
                fold = world.fold()
                cards.stops(fold, 1)
                fold.flush()
            world.run(self.dataset)
        assert check(world.ledger) == []
        left = world.db.execute("SELECT state, sum(n) FROM dataset_tally WHERE dataset = ? AND n <> 0 GROUP BY state", (self.dataset,)).fetchall()
        assert {Task(state) for state, _ in left} <= {Task.OK, Task.CANCELLED}
        assert self.state() == Dataset.COMPLETE


TestHistories = pytest.mark.long(History.TestCase)
TestHistories.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
