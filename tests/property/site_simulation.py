"""A site in memory: owner, serials, inbox, agents with journals of real bytes, a batch system (a simulation of what icp.pilot does).

It keeps the exchange's rules (a serial is applied once and answered again, one that is behind is refused, another ledger is
refused) and answers in real frames, so that an answer can be cut at any byte. Time is what it is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.backends.base import Unknown
from icp.backends.spool_client import Hello, Query, parse_answer
from icp.model.exchange import Answer
from icp.model.need import Need, parse
from icp.pilot.framing import FrameParser, frame
from icp.pilot.needs import compare
from icp.pilot.spool import join_card_name, line, split_card_name

GB = 10**9


@dataclass
class Work:
    """One attempt of a claimed card, as its agent knows it."""

    spec: dict[str, Any]
    card: str
    phase: str = "claimed"
    over: str = ""


@dataclass
class SimulatedAgent:
    """One writer of facts. ``muted``: it writes where the site does not see it yet (a network file system, a partition)."""

    name: str
    pilot: str
    cpus: int
    place: str = "agents"
    alive: bool = True
    muted: bool = False
    draining: bool = False
    n: int = 0
    segments: list[bytes] = field(default_factory=lambda: [b""])
    first: int = 1
    supervisor: bytes = b""
    hidden: list[dict[str, Any]] = field(default_factory=list)
    durable: list[dict[str, Any]] = field(default_factory=list)
    job: Job | None = None
    host: str = "node1"
    claimed: dict[str, list[Work]] = field(default_factory=dict)
    recalled: list[str] = field(default_factory=list)

    def tell(self, fact: dict[str, Any]) -> None:
        if self.muted:
            self.hidden.append(fact)
            return
        self.n += 1
        numbered = {"n": self.n, **fact}
        self.durable.append(numbered)
        self.segments[-1] += line(numbered)
        if len(self.segments[-1]) > 4000:
            self.segments.append(b"")

    def unmute(self) -> None:
        self.muted = False
        hidden, self.hidden = self.hidden, []
        for fact in hidden:
            self.tell(fact)

    def tear(self, again: int) -> None:
        """Half a line, then the next segment, which repeats the last ``again`` facts."""
        self.segments[-1] += line({"n": self.n + 1, "f": "beat"})[:17]
        self.segments.append(
            b"".join(line(fact) for fact in self.durable[len(self.durable) - min(again, len(self.durable)) :])
        )

    def begun(self) -> set[str]:
        """Attempts that a fact which the site can see says were begun."""
        return {
            str(fact.get("a"))
            for fact in self.durable
            if fact.get("f") in ("staging", "running", "storing")
            or (fact.get("f") == "ended" and fact.get("r") != "returned")
        }

    @property
    def todo(self) -> list[Work]:
        return [work for card in self.claimed.values() for work in card if not work.over]


@dataclass
class Job:
    """A batch job; ``state`` is what the batch system says: pending, running, ended, unknown, or absent (it forgot)."""

    pilot: str
    state: str = "pending"
    exit: int | None = None
    drain: bool = False
    agents: int = 0
    killed: bool = False
    """Nothing is brought back of it."""


def job_of(agent: SimulatedAgent) -> Job:
    assert agent.job is not None
    return agent.job


def _content(card: str, need: str, attempts: list[dict[str, Any]]) -> bytes:
    return json.dumps({"card": card, "need": need, "attempts": attempts}).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class SimulatedSite:
    def __init__(self, name: str, *, cpus: int = 2) -> None:
        self.name, self.cpus = name, cpus
        self.owner: dict[str, Any] | None = None
        self.applied: dict[str, Any] | None = None
        self.needs: dict[str, Need] = {}
        self.blobs: set[str] = set()
        self.inbox: dict[str, tuple[str, list[dict[str, Any]]]] = {}
        self.recalled: set[str] = set()
        self.cancels: set[str] = set()
        self.agents: dict[str, SimulatedAgent] = {}
        self.store: dict[tuple[str, str], bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.receipts: dict[str, dict[str, Any]] = {}
        self.bags: dict[str, tuple[str, str, list[dict[str, Any]], dict[tuple[str, str], bytes], set[str]]] = {}
        """pilot -> what travels with its job, where workers share nothing: card, need, attempts, store and cache as they were"""
        self.away: dict[tuple[str, str], bytes] = {}
        """What attempts on such workers made."""
        self.gathered: dict[str, dict[str, Any]] = {}
        self.told: dict[str, dict[str, Any]] = {}
        """pilot -> its pilot.json"""
        self.clock, self.host, self.boot = 5_000.0, "login1", "boot1"
        self.made = 0
        self.submits: list[str] = []
        """What the next submissions come to: ok (also when there is none), refused, lost (no receipt, but a job), twice, nothing."""
        self.kills: list[str] = []
        """What the next orders to end a job come to: ok (also when there is none), failed, deaf (answered, and nothing happens)."""
        self.tails: dict[str, str] = {}
        """What the batch jobs of pilots printed last."""
        self.asked_batch = True
        self.chunk = 1 << 20
        self.seen: list[Hello] = []
        self.stats: dict[str, dict[str, float]] = {}
        """What each attempt reported, when it reported ok."""
        self.bent: set[str] = set()
        """Attempts of which something was reported that no agent says."""
        self.produced: dict[str, dict[str, bytes]] = {}

    # -- the exchange -------------------------------------------------------------------------------------------

    def exchange(self, hello: Hello, query: Query, cut: float | None = None) -> Answer | Unknown:
        """One conversation; ``cut``: the share of the answer's bytes that arrive."""
        data = self.conversation(hello, query)
        if cut is not None:
            data = data[: int(len(data) * cut)]
        answer = parse_answer(data)
        if answer.owner is None and answer.refused is None:
            return Unknown("connection reset")
        return answer

    def conversation(self, hello: Hello, query: Query) -> bytes:
        self.seen.append(hello)
        refused = self._serve(hello)
        if refused is not None:
            return frame("refused", {"why": refused}) + frame("end", {"more": False})
        assert self.owner is not None
        told = {key: self.owner[key] for key in ("ledger", "epoch", "serial")}
        parts = [frame("owner", {**told, "host": self.host, "boot": self.boot, "now": round(self.clock, 3)})]
        if hello.orders is not None:
            assert self.applied is not None
            parts.append(frame("applied", self.applied))
        listed = []
        seen = [agent for agent in self.agents.values() if agent.place != "bag"]
        for agent in seen:
            if agent.place == "fenced" and agent.name in query.fenced:
                self._recall_unbegun(agent)
            streams = {"journal": [[agent.first + i, len(data)] for i, data in enumerate(agent.segments)]}
            if agent.supervisor:
                streams["supervisor"] = [[1, len(agent.supervisor)]]
            listed.append([agent.name, agent.place, streams, list(agent.claimed), list(agent.recalled)])
        parts.append(frame("agents", listed))
        for index, argv in enumerate(query.batch):
            code, text, err = self.batch(argv)
            parts.append(frame("batch", {"index": index, "rc": code, "err": err}, text.encode()))
        parts += [frame("tail", {"pilot": pilot}, self.tails[pilot].encode()) for pilot in query.ended if pilot in self.tails]
        more = False
        for agent in seen:
            more |= self._journal(parts, agent, "journal", agent.first, agent.segments, query)
            if agent.supervisor:
                more |= self._journal(parts, agent, "supervisor", 1, [agent.supervisor], query)
        for want in query.want:
            data = self.store.get((want.attempt, want.name))
            if data is None:
                parts.append(
                    frame(
                        "missing",
                        {"attempt": want.attempt, "index": want.index, "name": want.name, "why": "No such file"},
                    )
                )
                continue
            meta = {
                "attempt": want.attempt,
                "index": want.index,
                "name": want.name,
                "offset": want.offset,
                "size": len(data),
            }
            parts.append(frame("file", meta, data[want.offset : want.offset + want.length]))
        if query.cards:
            parts += self._cards()
        parts.append(frame("end", {"more": more}))
        return b"".join(parts)

    def _cards(self) -> list[bytes]:
        """For a ledger that forgot some: what waits, what agents hold, what went with a job."""
        places = [("inbox", card, need, attempts) for card, (need, attempts) in self.inbox.items()]
        for agent in self.agents.values():
            if agent.place != "bag":
                places += [(agent.name, card, next(iter(self.needs)), [work.spec for work in held]) for card, held in agent.claimed.items()]
        parts = []
        for place, card, need, attempts in places:
            parts.append(frame("card", {"place": place, "name": join_card_name(0, need, card)}, _content(card, need, attempts)))
        for pilot, (card, need, attempts, _, _) in self.bags.items():
            gathered = self.gathered.get(pilot)
            meta = {"pilot": pilot, "gathered": gathered, "receipt": self.receipts.get(pilot), "told": self.told[pilot]}
            name = None if gathered else join_card_name(0, need, card)
            parts.append(frame("bag", {**meta, "name": name}, b"" if gathered else _content(card, need, attempts)))
        return [*parts, frame("stored", sorted({key[0] for key in self.store}))]

    def _journal(
        self, parts: list[bytes], agent: SimulatedAgent, stream: str, first: int, segments: list[bytes], query: Query
    ) -> bool:
        segment, offset, _ = query.streams.get(f"{agent.name}/{stream}") or (0, 0, 0)
        for i, data in enumerate(segments):
            number = first + i
            begin = offset if number == segment else 0
            if number < segment or len(data) <= begin:
                continue
            part = data[begin : begin + self.chunk]
            parts.append(
                frame("journal", {"agent": agent.name, "stream": stream, "segment": number, "offset": begin}, part)
            )
            if begin + len(part) < len(data):
                return True
        return False

    def _serve(self, hello: Hello) -> str | None:
        """Applies the orders, or says why not."""
        if self.owner is None:
            if hello.serial > (0 if hello.orders is None else 1) and not hello.new:
                return "no spool"
            serial = hello.serial - (hello.orders is not None)
            self.owner = {"ledger": hello.ledger, "epoch": hello.epoch, "serial": serial, "digest": ""}
        owner = self.owner
        if owner["ledger"] != hello.ledger:
            return "other ledger"
        if hello.epoch < owner["epoch"]:
            return "copy"
        if hello.epoch > owner["epoch"]:
            owner.update(epoch=hello.epoch, serial=hello.serial - (hello.orders is not None), digest="")
        if hello.orders is None:
            return None if hello.serial == owner["serial"] else "behind" if hello.serial < owner["serial"] else "ahead"
        body, sha = hello.orders
        assert digest(body) == sha
        if hello.serial == owner["serial"]:
            return None if sha == owner["digest"] else "copy"
        if hello.serial != owner["serial"] + 1:
            return "behind" if hello.serial < owner["serial"] else "ahead"
        self.applied = self._apply(hello.serial, body)
        owner.update(serial=hello.serial, digest=sha)
        return None

    def _apply(self, serial: int, body: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = {"serial": serial, "recall": {}, "fence": {}, "submit": {}, "kill": {}, "gather": {}}
        parser = FrameParser()
        for kind, meta, data in parser.feed(body):
            if kind == "need":
                self.needs[meta["id"]] = parse(data)
            elif kind == "blob":
                assert digest(data) == meta["sha256"]
                self.blobs.add(meta["sha256"])
            elif kind == "card":
                _, need, card = split_card_name(meta["name"])
                assert need in self.needs, "a card arrived before its need"
                assert card not in self.inbox, "a card was sent twice under another serial"
                self.inbox[card] = (need, json.loads(data)["attempts"])
            elif kind == "recall":
                answer["recall"][meta["card"]] = self._recall(meta["card"])
            elif kind == "fence":
                answer["fence"][meta["agent"]] = self._fence(meta["agent"])
            elif kind == "cancel":
                self.cancels.add(meta["attempt"])
            elif kind == "drop" and "sha256" in meta:
                self.blobs.discard(meta["sha256"])
            elif kind == "drop" and "attempt" not in meta:
                job = self.jobs.get(meta.get("pilot", ""))
                assert job is None or job.state in ("ended", "absent")
            elif kind == "drop":
                for key in [key for key in self.store if key[0] == meta["attempt"]]:
                    del self.store[key]
            elif kind == "drain":
                self.jobs[meta["pilot"]].drain = True
            elif kind == "submit":
                told = json.loads(json.loads(data)["files"]["pilot.json"])
                self.told[meta["pilot"]] = told
                for name in told.get("only", ()):
                    assert split_card_name(name)[2] in self.inbox, "a batch job was submitted before its card was there"
                if "bag" in meta:
                    card = split_card_name(meta["bag"])[2]
                    self.bags[meta["pilot"]] = (card, *self.inbox.pop(card), dict(self.store), set(self.blobs))
                answer["submit"][meta["pilot"]] = self._submit(meta["pilot"])
            elif kind == "gather":
                answer["gather"][meta["pilot"]] = self._gather(meta["pilot"])
            elif kind == "kill":
                answer["kill"][meta["pilot"]] = self._kill(meta["pilot"], meta["argv"])
            elif kind == "ack":
                agent = self.agents.get(meta["agent"])
                assert agent is None or agent.muted or not agent.alive or not agent.todo, (
                    "an agent at work was acknowledged away"
                )
                if agent is not None and meta["stream"] == "journal" and not agent.muted:
                    del self.agents[meta["agent"]]
            else:
                raise AssertionError(kind)
        assert parser.broken is None
        return answer

    def _recall(self, card: str) -> str:
        if card in self.inbox:
            del self.inbox[card]
            self.recalled.add(card)
        for agent in self.agents.values():
            if agent.place == "fenced" and card in agent.claimed:
                self._recall_unbegun(agent)
        return "recalled" if card in self.recalled else "claimed"

    def _fence(self, name: str) -> dict[str, Any]:
        agent = self.agents.get(name)
        if agent is None:
            return {"began": [], "unbegun": [], "gone": True}
        agent.place = "fenced"
        return self._recall_unbegun(agent)

    def _recall_unbegun(self, agent: SimulatedAgent) -> dict[str, Any]:
        begun = agent.begun()
        for card in list(agent.claimed):
            if not any(work.spec["a"] in begun for work in agent.claimed[card]):
                del agent.claimed[card]
                self.recalled.add(card)
                agent.recalled.append(card)
        return {"began": list(agent.claimed), "unbegun": list(agent.recalled)}

    def _gather(self, pilot: str) -> dict[str, Any]:
        if pilot in self.gathered:
            return self.gathered[pilot]
        card, _, attempts, _, _ = self.bags.get(pilot, (None, "", [], {}, set()))
        told = {"card": card, "how": "none" if card is None else "recalled", "back": "none"}
        agents = [one for one in self.agents.values() if one.pilot == pilot and one.place == "bag"]
        if card is not None and agents and all(job.state == "ended" and not job.killed for job in self.jobs_of(pilot)):
            told["back"] = "whole"
            for agent in agents:
                agent.place = "agents"
                claimed = any(fact.get("f") == "claimed" for fact in agent.durable)
                if claimed:
                    told["how"] = "claimed" if card in agent.claimed else "done"
                else:
                    agent.claimed.clear()
            for key in [key for key in self.away if key[0] in {one["a"] for one in attempts}]:
                self.store[key] = self.away.pop(key)
        if told["how"] == "recalled":
            self.recalled.add(str(card))
        self.gathered[pilot] = told
        return told

    def _submit(self, pilot: str) -> dict[str, Any]:
        how = self.submits.pop(0) if self.submits else "ok"
        if pilot in self.receipts:
            return self.receipts[pilot]
        assert pilot not in self.jobs, "a pilot was submitted twice"
        if how in ("ok", "lost"):
            self.jobs[pilot] = Job(pilot)
        if how == "ok":
            self.receipts[pilot] = {"rc": 0, "out": f"job:{pilot}\n", "err": ""}
        elif how == "refused":
            self.receipts[pilot] = {"rc": 1, "out": "", "err": "no allocation left"}
        return self.receipts.get(pilot, {"rc": None, "out": "", "err": "interrupted while submitting"})

    def batch(self, argv: Sequence[str]) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a question to the batch system."""
        assert argv[-2] == "ps"
        if not self.asked_batch:
            return 1, "", ""
        rows = [
            {"pilot": job.pilot, "id": f"job:{job.pilot}", "state": job.state, "exit": job.exit}
            for job in self.jobs.values()
            if job.state != "absent"
        ]
        return 0, "".join(json.dumps(row) + "\n" for row in rows), ""

    def _kill(self, pilot: str, argv: Sequence[str]) -> dict[str, Any]:
        assert argv[-2:] == ["kill", "{dir}"]
        return self.killing([self.jobs[pilot]] if pilot in self.jobs else [])

    def killing(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """These jobs are told to end, unless this goes wrong, or is answered and forgotten."""
        how = self.kills.pop(0) if self.kills else "ok"
        if how == "ok":
            for job in jobs:
                self.end_job(job, "ended", None)
        return {"rc": int(how == "failed"), "out": "", "err": "scancel: error" if how == "failed" else ""}

    def end_job(self, job: Job, state: str, code: int | None) -> None:
        """It gets its SIGTERM; agents say their last word."""
        job.state, job.exit, job.killed = state, code, True
        for agent in self.at_work(None):
            if agent.pilot == job.pilot and agent.job is job:
                self.stop(agent, "SIGTERM")

    # -- pilots and agents --------------------------------------------------------------------------------------

    def start(self, job: Job, *, walltime: float | None = None, say: bool = True, host: str = "node1") -> SimulatedAgent:
        """An agent of this batch job begins; a second incarnation of the job says so and leaves."""
        self.made += 1
        agent = SimulatedAgent(f"{job.pilot}.0.{self.made:016x}", job.pilot, self.cpus)
        self.agents[agent.name] = agent
        agent.job, agent.host = job, host
        if job.pilot in self.bags:
            agent.place = "bag"
        job.state = "running"
        job.agents += 1
        started = sum(one.agents for one in self.jobs_of(job.pilot))
        end = None if walltime is None else self.clock + walltime
        if say:
            agent.tell({
                "f": "started", "t": self.clock, "host": host, "boot": "b", "pid": 7, "cpus": self.cpus, "memory": 1000 * GB, "disk": 1000 * GB,
                "gpus": 0, "end": end, "attrs": {"CPU": True, "Host": host},
            })  # fmt: skip
        if started > 1:
            self.stop(agent, "duplicate start")
        return agent

    def all_jobs(self) -> list[Job]:
        return list(self.jobs.values())

    def jobs_of(self, pilot: str) -> list[Job]:
        """All that were submitted for it."""
        return [self.jobs[pilot]]

    def at_work(self, place: str | None = "agents") -> list[SimulatedAgent]:
        return [one for one in self.agents.values() if one.alive and (place in (None, one.place) or (place, one.place) == ("agents", "bag"))]

    def claim(self, agent: SimulatedAgent, say: bool = True) -> str | None:
        """Takes the first card of the inbox that fits; its id."""
        if agent.place not in ("agents", "bag") or agent.draining or (job := self.jobs.get(agent.pilot)) is None or job.drain:
            return None
        only = self.only(agent)
        if agent.place == "bag":
            card, _, attempts, _, _ = self.bags[agent.pilot]
            if agent.claimed or any(fact.get("f") == "claimed" for fact in agent.durable):
                return None
            agent.claimed[card] = [Work(spec, card) for spec in attempts]
            agent.tell({"f": "claimed", "t": self.clock, "card": card})
            return card
        for card, (need, attempts) in list(self.inbox.items()):
            asked = self.needs[need]
            if only is not None and card not in only:
                continue
            if asked.cpus > agent.cpus or not compare(
                [[list(t) for t in clause] for clause in asked.any], {"CPU": True, "Host": agent.host}
            ):
                continue
            del self.inbox[card]
            agent.claimed[card] = [Work(spec, card) for spec in attempts]
            if say:
                agent.tell({"f": "claimed", "t": self.clock, "card": card})
            return card
        return None

    def only(self, agent: SimulatedAgent) -> set[str] | None:
        """The cards that it may claim, where it is there for some only."""
        names = self.told[agent.pilot].get("only")
        return None if names is None else {split_card_name(name)[2] for name in names}

    def said(self, agent: SimulatedAgent, work: Work, word: str, **more: Any) -> None:
        agent.tell({"f": word, "t": self.clock, "a": work.spec["a"], "k": work.spec["k"], **more})

    def progress(self, agent: SimulatedAgent, work: Work, word: str) -> None:
        if self._ready(agent, work):
            work.phase = word
            self.said(agent, work, word)

    def _ready(self, agent: SimulatedAgent, work: Work) -> bool:
        """Whether the attempts of the card before this one are over; those that were not ok mean that it never begins."""
        before = [one for one in agent.claimed.get(work.card, ()) if one.spec["a"] in work.spec["after"]]
        if any(not one.over for one in before):
            return False
        if any(one.over != "ok" for one in before):
            self.end(agent, work, "returned")
            return False
        return True

    def end(
        self,
        agent: SimulatedAgent,
        work: Work,
        result: str,
        kind: str = "payload",
        stats: dict[str, float] | None = None,
        err: str = "boom",
    ) -> str:
        """The attempt ends; what it came to (an input that is not there makes an ``ok`` an error of kind stage)."""
        if work.over:
            return work.over
        if result != "returned" and not self._ready(agent, work):
            return work.over
        if work.spec["a"] in self.cancels and result == "ok" and work.phase == "claimed" and agent.place != "bag":
            result = "cancelled"
        gone = self._absent_inputs(agent, work) if result == "ok" else []
        if gone:
            result, kind, err = "error", "stage", f"input {gone[0][-1]} cannot be copied"
        work.over = result
        fact: dict[str, Any] = {"r": result, "exit": {"ok": 0, "error": 1}.get(result), "cpu": 1.5, "rss": 10**7}
        fact["ph"] = [self.clock - 3, self.clock - 2.9, self.clock - 0.1, self.clock]
        if result == "ok":
            fact["out"] = self._outputs(agent, work)
            fact["stats"] = stats or {}
            self.stats[work.spec["a"]] = stats or {}
        elif result == "error":
            fact.update(kind=kind, err=err)
            if gone:
                fact["gone"] = gone
        self.said(agent, work, "ended", **fact)
        if all(one.over for one in agent.claimed[work.card]) and not agent.muted:
            del agent.claimed[work.card]
        return result

    def _absent_inputs(self, agent: SimulatedAgent, work: Work) -> list[list[str]]:
        """What this site should have and has not, or not with these bytes: ["store", attempt, name] or ["cache", sha256]."""
        gone = []
        store, blobs = self.store, self.blobs
        if agent.place == "bag":
            store, blobs = {**self.bags[agent.pilot][3], **self.away}, self.bags[agent.pilot][4]
        for one in work.spec["in"]:
            source, key, *rest = one["from"]
            if source == "cache":
                if key not in blobs:
                    gone.append([source, key])
                continue
            name = rest[0] if rest else one["name"]
            data = store.get((key, name))
            if data is None or (one["sha256"] is not None and digest(data) != one["sha256"]):
                gone.append([source, key, name])
        return gone

    def _outputs(self, agent: SimulatedAgent, work: Work) -> list[list[Any]]:
        out = []
        store = self.away if agent.place == "bag" else self.store
        attempt, flag = work.spec["a"], (work.spec["job"] + work.spec["try"]) % 2
        self.produced[attempt] = {}
        for index, one in enumerate(work.spec["out"]):
            names = [one["name"]]
            if "*" in one["name"]:
                names = [one["name"].replace("*", str(i)) for i in range(1 + flag)]
            if one["optional"] and flag:
                names = []
            for name in names:
                data = f"{name} of {work.spec['task']} in job {work.spec['job']} by {attempt}\n".encode()
                store[attempt, name] = self.produced[attempt][name] = data
                out.append([index, name, len(data), digest(data)])
        return out

    def stop(self, agent: SimulatedAgent, why: str = "idle") -> None:
        """Its last fact, after what it has not begun was returned and what runs evicted."""
        for work in agent.todo:
            self.end(agent, work, "returned" if work.phase == "claimed" else "evicted")
        agent.tell({"f": "stopped", "t": self.clock, "why": why})
        agent.alive = False

    def die(self, agent: SimulatedAgent, *, supervisor: bool = True) -> None:
        agent.alive = False
        if supervisor:
            agent.supervisor = line({"n": 1, "t": self.clock, "f": "agent_died"})

    def drained(self) -> None:
        """Agents that were told to drain say so, and return what they have not begun."""
        for agent in self.at_work():
            if self.jobs[agent.pilot].drain and not agent.draining:
                agent.draining = True
                agent.tell({"f": "drain", "t": self.clock, "why": "told"})
                for work in agent.todo:
                    if work.phase == "claimed":
                        self.end(agent, work, "returned")

    def behave(self) -> None:
        """What a healthy site does in a minute: pilots start, everything is claimed, done well, and cancelled where told."""
        self.asked_batch = True
        self.kills.clear()
        for job in self.all_jobs():
            agents = [one for one in self.agents.values() if one.job is job]
            if job.state == "pending" and not agents:
                self.start(job, host=f"node{self.made % 3}")
            elif job.state in ("running", "unknown", "absent", "pending"):
                lives = [one for one in agents if one.alive and one.place in ("agents", "bag")]
                job.state, job.exit = ("running", None) if lives else ("ended", 1)
        for agent in list(self.agents.values()):
            if agent.place == "fenced":
                # it finds its folder gone: it writes nothing more, and leaves
                agent.alive = False
                continue
            if not agent.alive:
                continue
            agent.unmute()
            agent.tell({"f": "beat", "t": self.clock})
            for work in agent.todo:
                self._finish(agent, work)
            while self.claim(agent) is not None:
                for work in agent.todo:
                    self._finish(agent, work)
            if (only := self.only(agent)) is not None and not agent.draining:
                self.stop(agent, "idle" if only & set(self.inbox) else "its card is done")
                if agent.place == "bag" and job_of(agent).state == "running":
                    job_of(agent).state, job_of(agent).exit = "ended", 0
        self.drained()
        for agent in self.at_work():
            if agent.draining:
                self.stop(agent, "drained")

    def _finish(self, agent: SimulatedAgent, work: Work) -> None:
        self.end(
            agent,
            work,
            "cancelled" if work.spec["a"] in self.cancels and agent.place != "bag" else "ok",
            stats={"n": 1.0, "job": float(work.spec["job"])},
        )
