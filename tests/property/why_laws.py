"""What every answer of `icp why` has to hold, whatever it is asked about: asked of everything that a scene has, by the function that the command uses."""

import re
import shlex
from functools import cache

from icp import cli
from icp.commands import reasons
from icp.commands.arguments import job_text
from icp.ledger.definitions import Definitions
from icp.ledger.snapshot import read_snapshot
from icp.ledger.views_jobs import spans, unmade_finals
from icp.model.plan import Deal, Release, Submit
from icp.planner import allowed, may_fit, plan
from icp.states import Agent, Attempt, Dataset, File, Pilot, Task

EMPTY = re.compile(r"no idea|unknown state|\bNone\b|\bnan\b|Traceback|[{}]|\bunknown\b|  |^$|^\s|\s$|\?$")
COMMAND = re.compile(r"`(icp [^`]+)`")
AT_WORK = {
    Attempt.CLAIMED: "claimed it", Attempt.COPYING_INPUT: "copies its inputs", Attempt.RUNNING: "runs it", Attempt.COPYING_OUTPUT: "copies its outputs",
}  # fmt: skip
ENDED = {
    Attempt.EVICTED: "was evicted", Attempt.RETURNED: "was given back", Attempt.CANCELLED: "was stopped", Attempt.RECALLED: "was called back",
    Attempt.LOST: "was lost",
}  # fmt: skip
FILES = {
    File.PRODUCED: "not fetched yet", File.RELAYING: "to be sent on to another site", File.COLLECTING: "on its way home", File.HOME: "home, verified",
    File.LOST: "lost at site", File.DROPPED: "removed",
}  # fmt: skip
"""What must be said of each state: chosen here, apart from what is written there."""
SITES = "paused", "draining", "needs login", "refused", "unreachable", "gone", "mute", "ready", "limited"


@cache
def commands():
    return dict(cli.walk())


@cache
def parses(text):
    """Whether the program itself understands this command line (``a && b``, ``a > file``), or it only names a command."""
    for line in re.split(r"&&|;", text):
        words = shlex.split(line.partition(">")[0])
        assert words[0] == "icp", text
        name = next((" ".join(words[1 : 1 + n]) for n in (2, 1) if " ".join(words[1 : 1 + n]) in commands()), None)
        assert name is not None, f"there is no such command: {text}"
        rest = words[1 + len(name.split()) :]
        if rest:
            commands()[name].make_context(name, rest).close()


def named(state):
    """States of several machines may be the same number."""
    return f"{type(state).__name__}.{state.name}"


class Asker:
    """Asks about everything in a scene; ``reached`` are the states of which an answer told."""

    def __init__(self, scene):
        self.scene = scene
        self.reached = set()
        self.answers = 0
        self.sentences = set()

    def why(self, thing, **more):
        with self.scene.desk.read() as db:
            answers = reasons.why(db, self.scene.config, str(thing), self.scene.now, **more)
        assert answers, f"no answer about {thing} {more}"
        for one in answers:
            self.well_said(one)
        return answers

    def well_said(self, one):
        assert one.about and one.state and one.state.islower(), one
        for text in (one.sentence, *(line for line in one.evidence if not line.startswith("| "))):
            assert not EMPTY.search(text), one
            for command in COMMAND.findall(text):
                parses(command)
        assert " " in one.sentence, one
        if one.mend:
            parses(one.mend)
        self.answers += 1
        self.sentences.add(re.sub(r"[0-9a-f]{16,}|\d+", "#", one.sentence))

    # -- everything there is ------------------------------------------------------------------------------------

    def everything(self):
        for (number,) in self.scene.db.execute("SELECT id FROM dataset WHERE deleted IS NULL").fetchall():
            self.dataset(number)
            self.jobs(number)
            self.tasks(number)
        self.sites()
        self.pilots()

    def dataset(self, number):
        first, *others = self.why(number)
        state, reason = self.scene.db.execute("SELECT state, reason FROM dataset WHERE id = ?", (number,)).fetchone()
        shown = {"errors": "processing"}.get(first.state, first.state)
        assert shown == Dataset(state).name.lower() and first.about.startswith("dataset "), first
        if state in (Dataset.SUSPENDED, Dataset.CANCELLED) or first.state == "errors":
            assert first.mend, first
        if reason is not None and state == Dataset.SUSPENDED:
            assert reason in first.sentence or re.match(r"it was suspended by \w+ at ", first.sentence), first
        self.reached.add(named(Dataset(state)))
        counts = dict(self.scene.db.execute("SELECT state, count(*) FROM task WHERE dataset = ? GROUP BY state", (number,)).fetchall())
        if state == Dataset.PROCESSING:
            assert first.state == "errors" or (("at sites now" in first.sentence) == bool(counts.get(Task.QUEUED, 0) + counts.get(Task.PROCESSING, 0))), first
            self.placement(number, others)
            self.unreleased(number, others)
        for one in others:
            assert one.state != "failed" or one.mend, one

    def jobs(self, number):
        """One of each range of jobs that are not rows, and each group of a final task that is none."""
        graph = self.scene.definitions.graph(number)
        jobs = self.scene.one("SELECT jobs FROM dataset WHERE id = ?", number)
        for low, high, word in spans(self.scene.db, number, 0, jobs - 1):
            if word != "rows":
                first, *_ = self.why(number, job=str(low if low % 2 else high))
                assert first.state == word and (word == "unreleased" or first.mend), first
        for one in unmade_finals(self.scene.db, graph, 100):
            first, *_ = self.why(number, job=job_text(-1 - one.group), task=one.task)
            assert first.state == "unreleased" and first.sentence.startswith("it waits for" if one.left else "the next tick makes it"), first

    def tasks(self, number):
        """One task of each kind: of a definition, in a state, with tries in these states."""
        seen = set()
        graph = self.scene.definitions.graph(number)
        for task, job, definition, state, later in self.scene.db.execute(
            "SELECT id, job, task_def, state, coalesce(not_before, 0) > ? FROM task WHERE dataset = ? ORDER BY id", (self.scene.now, number)
        ).fetchall():
            tries = self.scene.db.execute(
                "SELECT a.id, a.state, a.void, a.live, g.state FROM attempt a LEFT JOIN agent g ON g.id = a.agent WHERE a.task = ? ORDER BY a.id", (task,)
            ).fetchall()
            files = [File(one[0]) for one in self.scene.db.execute(
                "SELECT state FROM file WHERE attempt = (SELECT accepted FROM task WHERE id = ?) ORDER BY id", (task,)).fetchall()]  # fmt: skip
            kind = (definition, state, later, tuple(one[1:] for one in tries[-2:]), tuple(files))
            if kind not in seen:
                seen.add(kind)
                self.task(number, graph.defs[definition].name, job, Task(state), tries, files)

    def task(self, number, name, job, state, tries, files):
        answers = self.why(number, job=job_text(job), task=name)
        (said,) = [one for one in answers if one.about.startswith(f"task {name} in job")]
        evidence = "\n".join(said.evidence)
        assert said.state == state.name.lower(), (said, state)
        self.reached.add(named(state))
        live = [one for one in tries if one[3] and not one[2]]
        if state == Task.QUEUED:
            assert live and live[-1][1] == Attempt.QUEUED and "at site" in said.sentence, (said, tries)
            self.reached.add(named(Attempt.QUEUED))
        elif state == Task.PROCESSING:
            assert live and AT_WORK[Attempt(live[-1][1])] in said.sentence, (said, tries)
            self.reached.add(named(Attempt(live[-1][1])))
            away = self.scene.one("SELECT s.unreachable IS NOT NULL FROM attempt a JOIN site s ON s.id = a.site WHERE a.id = ?", live[-1][0])
            assert not away or said.mend, said
            agent = Agent(live[-1][4])
            assert (f"the agent is {agent.name.lower()}" in evidence) == (agent != Agent.LIVE), said
            self.reached.add(named(agent))
        elif state == Task.OK:
            assert said.sentence.startswith("it is done, by try"), said
            self.reached.add(named(Attempt.OK))
            assert [one for line in said.evidence for one, words in FILES.items() if words in line.partition(": ")[2]] == files, (said, files)
            self.reached.update(map(named, files))
        elif state == Task.IDLE:
            assert "it waits for" in said.sentence or "must be ok again first" in said.sentence, said
            assert said.mend or not re.search(r"\((failed|suspended|cancelled)\)", said.sentence), said
        elif state in (Task.FAILED, Task.SUSPENDED):
            assert said.mend, said
        elif state == Task.CANCELLED:
            dataset = self.scene.state(number)
            assert said.mend or dataset == Dataset.CANCELLED, said
        if state in (Task.WAITING, Task.FAILED) and tries:
            self.ended(tries, evidence)

    def ended(self, tries, evidence):
        """The last try that ended is told of."""
        for _, state, void, _, _ in reversed(tries):
            state = Attempt(state)
            if state == Attempt.ERROR:
                assert re.search(r"try \d+ at site \w+: \w+", evidence), evidence
            elif state in ENDED:
                assert ENDED[state] in evidence, (state, evidence)
            elif state == Attempt.OK and void:
                if "is lost there" in evidence:
                    self.reached.add(named(File.LOST))
                else:
                    assert "it counts no more" in evidence, evidence
            else:
                continue
            self.reached.add(named(state))
            return

    def sites(self):
        for name, paused, unreachable, login, reason in self.scene.db.execute("SELECT name, paused, unreachable, login, reason FROM site").fetchall():
            first, *_ = self.why(name)
            assert first.state in SITES and first.about == f"site {name}", first
            assert (first.state in ("paused", "draining")) == (paused is not None), first
            if paused is None:
                assert (first.state == "needs login") == (login is not None), first
                assert (first.state in ("refused", "unreachable")) == (unreachable is not None and login is None), first
                if first.state != "gone":
                    assert (first.state == "mute") == (unreachable is None and reason is not None), first
            assert first.mend or first.state in ("ready", "limited"), first
            held = first.state in ("paused", "draining", "needs login", "refused", "unreachable")
            assert held or (first.state == "gone") == (name not in self.scene.config.sites), first

    def pilots(self):
        for key, state, stopping in self.scene.db.execute("SELECT hex(key), state, stopping FROM pilot").fetchall():
            (said,) = self.why(key.lower())
            state = Pilot(state)
            assert said.state == state.name.lower() and said.about == f"pilot {key.lower()}", said
            runs = re.match("it runs|it lets what runs there end|its agents have ended", said.sentence)
            assert bool(runs) == (state in (Pilot.RUNNING, Pilot.DRAINING)), said
            states = [one[0] for one in self.scene.db.execute("SELECT a.live FROM agent a JOIN pilot p ON p.id = a.pilot WHERE hex(p.key) = ?", (key,))]
            if runs:
                live = sum(states)
                words = f", with {live} agent" if live else "its agents have ended" if states else "no agent of it was seen yet"
                assert words in said.sentence, said
            assert not stopping or state not in (Pilot.PENDING, Pilot.RUNNING) or any("its end was ordered" in line for line in said.evidence), said
            assert said.mend or state != Pilot.FAILED, said
            assert not re.search("waits in the queue.*(CANCELLED|FAILED|COMPLETED)", said.sentence), said
            self.reached.add(named(state))
            for number, n in self.scene.db.execute(
                "SELECT a.state, count(*) FROM agent a JOIN pilot p ON p.id = a.pilot WHERE hex(p.key) = ? GROUP BY a.state", (key,)
            ).fetchall():
                assert any(f"{n} {Agent(number).name.lower()}" in line for line in said.evidence), said
                self.reached.add(named(Agent(number)))

    # -- what the planner does ----------------------------------------------------------------------------------

    def snapshot(self):
        with self.scene.desk.read() as db:
            configured = [(one.name, one.attributes, one.pilot) for one in self.scene.config.sites.values()]
            return read_snapshot(db, Definitions(db), configured, self.scene.now)

    def placement(self, number, answers):
        """What is said of work that waits, site by site, is what the planner's own plan does with it."""
        snapshot, policy = self.snapshot(), self.scene.config.policy
        actions = plan(snapshot, policy, self.scene.now)
        own = next(one for one in snapshot.datasets if one.id == number)
        names = {site.name: site for site in snapshot.sites}
        for one in answers:
            if one.state != "waiting" or not re.search(r"for a place|can run nowhere", one.sentence):
                continue
            defs = [row.id for row in self.scene.definitions.graph(number).defs.values() if one.about == f"task {row.name}"]
            classes = [row for row in snapshot.classes if row.dataset == number and row.state == Task.WAITING and row.task_def in defs and row.need]
            deals = {action.site for action in actions if isinstance(action, Deal) and action.task_def in defs}
            submits = {action.site for action in actions if isinstance(action, Submit)}
            lines = [line for line in one.evidence if re.search(r"site \w+", line)]
            assert len(lines) == len(names), one
            needs = {row.need for row in classes}
            for line in lines:
                site = names[re.search(r"site (\w+)", line)[1]]
                sends = "sends some of it there" in line
                if len(needs) == 1 and len({row.zone for row in classes}) == 1:
                    assert sends == (site.id in deals), (one, actions)
                need = snapshot.needs[min(needs)]
                if site.paused is not None or not site.reachable or not allowed(own, site) or (len(needs) == 1 and not may_fit(need, site)):
                    assert not sends, one
                if "next tick submits one" in line:
                    assert site.id in submits | deals, (one, actions)
                if "gets none" in line:
                    assert site.id not in submits, (one, actions)
            if len(needs) == 1:
                closed = [site.paused is not None or (site.login and not site.reachable) or not allowed(own, site)
                          or not may_fit(snapshot.needs[min(needs)], site) for site in names.values()]  # fmt: skip
                assert ("can run nowhere" in one.sentence) == all(closed), (one, closed)
            if "can run nowhere" in one.sentence:
                assert not deals and one.mend, (one, actions)

    def unreleased(self, number, answers):
        """What is said of jobs that nobody began is what the plan does with them."""
        planned = sum(one.jobs for one in plan(self.snapshot(), self.scene.config.policy, self.scene.now) if isinstance(one, Release) and one.dataset == number)
        said = [one for one in answers if one.state == "unreleased" and "not released yet" in one.sentence]
        assert sum(int(m[1]) for one in said if (m := re.search(r"next tick releases (\d+) of them", one.sentence))) == planned, (said, planned)

    def and_next_tick(self):
        """The engine's own next tick, at this very moment, deals nothing to where nothing was said to go."""
        before = self.scene.one("SELECT coalesce(max(id), 0) FROM attempt")
        can = {}
        for dataset, job, name in self.scene.db.execute(
            "SELECT t.dataset, t.job, d.name FROM task t JOIN task_def d ON d.id = t.task_def JOIN dataset s ON s.id = t.dataset "
            "WHERE t.state = ? AND t.need > 0 AND s.state = 0 AND t.not_before IS NULL LIMIT 8", (int(Task.WAITING),)
        ).fetchall():  # fmt: skip
            said = next(one for one in self.why(dataset, job=job_text(job), task=name) if one.about.startswith(f"task {name} "))
            can[dataset, job, name] = (said, {m[1] for line in said.evidence if (m := re.search(r"site (\w+) .*sends some of it there", line))})
        self.scene.crash = None
        self.scene.tick(0.0)
        for dataset, job, name, site in self.scene.db.execute(
            "SELECT t.dataset, t.job, d.name, s.name FROM attempt a JOIN task t ON t.id = a.task JOIN task_def d ON d.id = t.task_def "
            "JOIN site s ON s.id = a.site WHERE a.id > ?", (before,)
        ).fetchall():  # fmt: skip
            said, sites = can.get((dataset, job, name), (None, ()))
            assert said is None or site in sites, (said, site)
