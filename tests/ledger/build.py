"""Small ledgers by hand: a World submits, releases, deals and reports facts exactly as the engine does, without processes or clocks."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.backends.batch.none import NoBatch
from icp.ledger import cards, files, pilots, ranges, release, sites, upkeep
from icp.ledger.control import Control
from icp.ledger.db import Ledger, open_ledger
from icp.ledger.definitions import Definitions
from icp.ledger.fold import Fold
from icp.ledger.ingest import Ingest, Ingested
from icp.ledger.submit import record
from icp.model.batch import NotSubmitted, Submitted, Unclear
from icp.model.definition import InputRef, JobSource, Module, OutputDef, Resources, Steering, TaskDef, Tray
from icp.model.exchange import Answer
from icp.model.need import Need
from icp.model.plan import PilotSpec, Policy
from icp.pilot.spool import line
from icp.states import DATASET, Dataset, Task

NOW = 1_790_000_000.0


def task(
    name: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str | OutputDef] = (),
    after: Sequence[str] = (),
    final: bool = False,
    group_by: str | None = None,
    max_tries: int = 3,
    command: str = "true",
) -> TaskDef:
    """A definition; ``inputs`` are ``parent:output`` (with ``[*]`` for final tasks). Its index is set by :func:`steering`."""
    refs = []
    for one in inputs:
        parent, _, output = one.partition(":")
        refs.append(InputRef(parent, output.removesuffix("[*]"), output.endswith("[*]")))
    parents = tuple(dict.fromkeys([*(ref.task for ref in refs), *after]))
    outs = tuple(OutputDef(one) if isinstance(one, str) else one for one in outputs)
    tray = Tray((Module(command),))
    return TaskDef(name, 0, final, (tray,), tuple(refs), outs, parents, Resources(), "", None, max_tries, group_by)


def steering(jobs: int, *defs: TaskDef, name: str = "d", category: str = "", stop_loss: int = 20) -> Steering:
    def numbered(one: TaskDef, index: int) -> TaskDef:
        return TaskDef(
            one.name, index, one.final, one.trays, one.inputs, one.outputs, one.after, one.resources, one.requirements,
            one.software, one.max_tries, one.group_by,
        )  # fmt: skip

    ordered = [one for one in defs if not one.final] + [one for one in defs if one.final]
    placed = [numbered(one, index) for index, one in enumerate(ordered)]
    return Steering(
        name=name,
        jobs=JobSource("count", jobs),
        tasks=tuple(one for one in placed if not one.final),
        finals=tuple(one for one in placed if one.final),
        category=category,
        stop_loss=stop_loss,
        text=f"# steering of {name}\njobs = {jobs}\n",
        path="steering.toml",
    )


@dataclass(frozen=True)
class Try:
    """One attempt that was dealt."""

    key: str
    passkey: str
    card: str
    site: str
    dataset: int
    task: str
    job: int


class Agent:
    """A journal that grows; the whole of it is sent with every answer, as after a lost offset."""

    def __init__(self, world: World, site: str, name: str) -> None:
        self.world, self.site, self.name = world, site, name
        self.n = 0
        self.journal = b""
        self.supervisor = b""
        self.cards: list[str] = []
        self.recalled: list[str] = []

    def note(self, fact: dict[str, Any]) -> None:
        self.n += 1
        self.journal += line({"n": self.n, "t": self.world.now, **fact})

    def note_supervisor(self, fact: dict[str, Any]) -> None:
        self.supervisor += line({"n": 1, "t": self.world.now, **fact})


def _receipt(said: Mapping[str, Any]) -> Submitted | NotSubmitted | Unclear:
    return NoBatch().receipt(said.get("rc"), str(said.get("out") or ""), str(said.get("err") or ""), {})


class World:
    """A ledger in ``folder`` with a site, driven through the rooms that the engine uses, in its order."""

    def __init__(self, folder: Path, *, site_names: Sequence[str] = ("local",), policy: Policy | None = None, path: Path | None = None) -> None:
        self.folder = folder
        self.ledger: Ledger = open_ledger(path or folder / "ledger.sqlite", create=True, now=NOW)
        self.db = self.ledger.db
        self.db.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug on these
        self.definitions = Definitions(self.db)
        self.policy = policy or Policy(backoff=(0,))
        self.now = NOW
        self.remote = 5000.0
        self._random = itertools.count(1)
        with self.ledger.write():
            self.site_ids = {name: sites.ensure_site(self.ledger, name, name) for name in site_names}
            self.ledger.set_meta("last_tick", self.now)
        self.site = site_names[0]
        self.agents: dict[str, Agent] = {}
        self.tries: dict[str, Try] = {}
        self.bytes: dict[tuple[str, str], bytes] = {}

    def _key(self) -> bytes:
        return hashlib.sha256(b"%d" % next(self._random)).digest()[:8]

    # -- submission ---------------------------------------------------------------------------------------------

    def submit(self, jobs: int, *defs: TaskDef, name: str = "d", category: str = "", stop_loss: int = 20) -> int:
        """Record a dataset (a single task ``a`` unless definitions are given); its number."""
        given = defs or (task("a", outputs=["a.txt"]),)
        one = steering(jobs, *given, name=name, category=category, stop_loss=stop_loss)
        uuid = f"00000000-0000-0000-0000-{next(self._random):012d}"
        with self.ledger.write():
            return record(
                self.ledger, one, uuid=uuid, seed=1, directory=str(self.folder), outputs=str(self.folder / "outputs" / name), pack=None, now=self.now
            )

    def fold(self) -> Fold:
        return Fold(self.ledger, self.definitions, self.now, backoff=self.policy.backoff)

    def need(self) -> int:
        return release.need_id(self.db, Need())

    def release(self, dataset: int, n: int | None = None) -> list[int]:
        """Make rows of up to ``n`` more jobs (all); the jobs. Groups are ``job // 2``."""
        graph = self.definitions.graph(dataset)
        with self.ledger.write():
            jobs, grouped = self.db.execute("SELECT jobs, grouped FROM dataset WHERE id = ?", (dataset,)).fetchone()
            by_group = [one for one in graph.finals if one.final == 2]
            if grouped < jobs and by_group:
                release.add_groups(self.db, graph, ((job, {one.id: str(job // 2) for one in by_group}) for job in range(grouped, jobs)))
            chosen = ranges.take(self.db, dataset, jobs if n is None else n, jobs)
            fold = self.fold()
            need = self.need()
            release.release_jobs(fold, graph, chosen, lambda task_def, job: need)
            fold.flush()
        return chosen

    def finals(self) -> int:
        """Final tasks whose time has come become rows."""
        with self.ledger.write():
            fold = self.fold()
            need = self.need()
            made = release.release_finals(fold, release.ready_finals(self.db, 200), lambda task_def, job, key: need)
            fold.flush()
        return made

    # -- cards --------------------------------------------------------------------------------------------------

    def deal(self, dataset: int, n: int = 1000, *, per_card: int = 1, site: str | None = None, task: str | None = None) -> list[Try]:
        """Put waiting tasks into cards, ``per_card`` to each."""
        site = site or self.site
        made: list[Try] = []
        with self.ledger.write():
            fold = self.fold()
            self._renew(fold)
            classes = self.db.execute(
                "SELECT task_def, need, zone FROM live_class WHERE dataset = ? AND state = ? AND n > 0 GROUP BY task_def, need, zone",
                (dataset, int(Task.WAITING)),
            ).fetchall()
            for task_def, need, zone in classes:
                name = self.definitions.task_def(task_def).name
                if task is not None and name != task:
                    continue
                rows = cards.waiting_tasks(fold, dataset, task_def, need, zone, self.now, n - len(made))
                for start in range(0, len(rows), per_card):
                    part = rows[start : start + per_card]
                    card = self._key()
                    number = cards.make_card(self.db, card, self.site_ids[site], need, 0, self.now)
                    entries = [(row, self._key(), self._key()) for row in part]
                    cards.make_attempts(fold, number, self.site_ids[site], entries)
                    made += [Try(key.hex(), passkey.hex(), card.hex(), site, dataset, name, row.job) for row, key, passkey in entries]
            fold.flush()
        self.tries.update({one.key: one for one in made})
        return made

    def _renew(self, fold: Fold) -> None:
        for dataset, task_def in upkeep.needless(self.db):
            rows = self.db.execute(
                "SELECT id FROM task INDEXED BY task_live WHERE live = 1 AND dataset = ? AND task_def = ? AND need = 0", (dataset, task_def)
            ).fetchall()
            fold.load_tasks([row[0] for row in rows])
            for (number,) in rows:
                fold.tasks[number].need = self.need()
                fold.dirty_tasks[number] = fold.tasks[number]
        fold.flush()

    # -- agents and facts ---------------------------------------------------------------------------------------

    def agent(self, site: str | None = None, cpus: int = 2) -> Agent:
        """A pilot with one agent that has said ``started``."""
        site = site or self.site
        key = self._key()
        with self.ledger.write():
            pilots.make_pilot(self.db, self.site_ids[site], key, PilotSpec(cpus=cpus, memory=4 * 10**9, gpus=0), self.now)
        one = Agent(self, site, f"{key.hex()}.0.{self._key().hex()}")
        self.agents[one.name] = one
        node = {"cpus": cpus, "memory": 4 * 10**9, "disk": 10**10, "gpus": 0, "attrs": {}}
        one.note({"f": "started", "host": "node-1", "boot": "b", "pid": 1, "end": None, **node})
        self.answer(one)
        return one

    def answer(self, *agents: Agent, applied: dict[str, Any] | None = None, seconds: float = 1.0, site: str | None = None) -> Ingested:
        """One exchange's answer with these agents' folders and journals (all of the site's, when none is named)."""
        site = site or (agents[0].site if agents else self.site)
        said = agents or tuple(one for one in self.agents.values() if one.site == site)
        self.now += seconds
        self.remote += seconds
        whole = Answer(owner={"host": "login", "boot": "b0", "now": self.remote}, applied=applied, whole=True)
        for one in said:
            streams = {"journal": [[1, len(one.journal)]]}
            whole.journals.append((one.name, "journal", 1, 0, one.journal))
            if one.supervisor:
                streams["supervisor"] = [[1, len(one.supervisor)]]
                whole.journals.append((one.name, "supervisor", 1, 0, one.supervisor))
            whole.agents.append([one.name, "agents", streams, list(one.cards), list(one.recalled)])
        return Ingest(self.ledger, self.definitions, self.site_ids[site], self.policy, self.now, _receipt)(whole)

    def claim(self, agent: Agent, *tries: Try) -> None:
        """The agent takes the cards of these attempts."""
        for card in dict.fromkeys(one.card for one in tries):
            agent.cards.append(card)
            agent.note({"f": "claimed", "card": card})
        self.answer(agent)

    def running(self, agent: Agent, *tries: Try) -> None:
        for one in tries:
            agent.note({"f": "running", "a": one.key, "k": one.passkey})
        self.answer(agent)

    def content(self, one: Try, name: str) -> bytes:
        return f"{name} of {one.task} in job {one.job}\n".encode()

    def ended(
        self,
        agent: Agent,
        *tries: Try,
        result: str = "ok",
        kind: str = "payload",
        err: str = "boom",
        exit_: int | None = None,
        stats: dict[str, float] | None = None,
        outputs: Iterable[str] | None = None,
        log: Sequence[int] | None = None,
        seconds: float = 2.0,
        send: bool = True,
    ) -> Ingested | None:
        """These attempts ended so; outputs are all declared ones unless named."""
        for one in tries:
            fact: dict[str, Any] = {"f": "ended", "a": one.key, "k": one.passkey, "r": result, "cpu": 1.5, "rss": 50_000_000}
            fact["exit"] = exit_ if exit_ is not None else (0 if result == "ok" else 1 if result == "error" else None)
            begun = self.now
            fact["ph"] = [begun, begun + 0.1, begun + 0.1 + seconds, begun + 0.2 + seconds]
            if log is not None:
                fact["log"] = list(log)
            if result == "ok":
                definition = self.definitions.graph(one.dataset).by_name(one.task)
                assert definition is not None
                fact["out"] = []
                for row in definition.outputs:
                    if outputs is None or row.name in outputs:
                        data = self.content(one, row.name)
                        self.bytes[one.key, row.name] = data
                        fact["out"].append([row.idx, row.name, len(data), hashlib.sha256(data).hexdigest()])
                if stats is not None:
                    fact["stats"] = stats
            elif result == "error":
                fact.update(kind=kind, err=err)
            agent.note(fact)
            if one.card in agent.cards and all(fact_of in tries for fact_of in self._of_card(one.card)):
                agent.cards.remove(one.card)
        return self.answer(agent) if send else None

    def _of_card(self, card: str) -> list[Try]:
        return [one for one in self.tries.values() if one.card == card]

    def live(self, site: str | None = None) -> list[Try]:
        """Attempts at a site that have not ended, as the ledger knows."""
        rows = self.db.execute("SELECT key FROM attempt WHERE live = 1 AND site = ? ORDER BY state, id", (self.site_ids[site or self.site],)).fetchall()
        return [self.tries[row[0].hex()] for row in rows]

    # -- what follows -------------------------------------------------------------------------------------------

    def home(self) -> int:
        """Every wanted file comes home, its bytes written where they belong."""
        done = 0
        with self.ledger.write():
            for site in self.site_ids.values():
                wanted = files.coming(self.db, site, 1000)
                files.set_collecting(self.db, [one.file for one in wanted])
                for one in wanted:
                    one.target.parent.mkdir(parents=True, exist_ok=True)
                    one.target.write_bytes(self.bytes[one.attempt, one.name])
                files.arrived(self.db, self.definitions, wanted)
                done += len(wanted)
            while files.sweep(self.db, self.definitions):
                pass
        return done

    def finish(self, dataset: int) -> bool:
        """Complete the dataset if nothing is left of it, by the table."""
        state, jobs, released, coming = self.db.execute("SELECT state, jobs, released, coming FROM dataset WHERE id = ?", (dataset,)).fetchone()
        open_ = self.db.execute("SELECT sum(n) FROM dataset_tally WHERE dataset = ? AND state NOT IN (4, 7)", (dataset,)).fetchone()[0]
        unmade = self.db.execute("SELECT 1 FROM final_left WHERE dataset = ? AND made = 0", (dataset,)).fetchone()
        held = sum(ranges.held(self.db, dataset, word) for word in ("suspend", "release"))
        if state != Dataset.PROCESSING or open_ or unmade or coming or held or released < jobs:
            return False
        with self.ledger.write() as db:
            after = DATASET.step(Dataset(state), "finished")
            db.execute("UPDATE dataset SET state = ?, finished = ? WHERE id = ?", (int(after), self.now, dataset))
        return True

    def run(self, dataset: int, agent: Agent | None = None, *, stats: dict[str, float] | None = None) -> Agent:
        """Everything that can be done is done well, until nothing moves."""
        agent = agent or self.agent()
        while True:
            self.release(dataset)
            self.finals()
            self.deal(dataset)
            tries = self.live(agent.site)
            if not tries:
                break
            taken = {card for one in self.agents.values() for card in one.cards}
            self.claim(agent, *(one for one in tries if one.card not in taken))
            self.ended(agent, *tries, stats=stats)
            self.home()
        self.home()
        self.finish(dataset)
        return agent

    def control(self, dataset: int) -> Control:
        self.now += 1
        return Control(self.ledger, self.definitions, dataset, self.now)

    def state(self, dataset: int, job: int, name: str) -> Task:
        """The state of one task."""
        definition = self.definitions.graph(dataset).by_name(name)
        assert definition is not None
        row = self.db.execute("SELECT state FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (dataset, job, definition.id)).fetchone()
        return Task(row[0])

    def close(self) -> None:
        self.ledger.close()
