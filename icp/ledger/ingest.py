"""A site's answer becomes rows: facts folded in transactions of bounded size, the offset in the same one (hides their order).

Order matters: what the listing of agents' folders shows first, then journals, and an agent's end only when its whole journal
was read, so that nothing is believed lost that the next line reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.ledger import bags, files, pilots, sites, transferred
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.facts import attempt_fields, declared_outputs, statistics, text
from icp.ledger.fold import Fold
from icp.ledger.rows import AttemptRow, read_attempts
from icp.model.batch import NotSubmitted, Submitted, Unclear
from icp.model.exchange import Answer
from icp.model.plan import Policy
from icp.pilot.spool import Position, take
from icp.states import ATTEMPT, Agent, Attempt

__all__ = ["FACTS_AT_ONCE", "Ingest", "Ingested", "Receipts"]

FACTS_AT_ONCE = 5000
SECONDS_AT_ONCE = 0.25
_ENDS = ("ok", "error", "evicted", "returned", "cancelled")
_PROGRESS = {"staging": "staging", "running": "running", "storing": "storing"}


@dataclass(slots=True)
class Ingested:
    """What an answer brought: facts taken, tasks newly ok, things that no table knows."""

    facts: int = 0
    accepted: int = 0
    strange: int = 0
    datasets: frozenset[int] = frozenset()


Receipts = Callable[[Mapping[str, Any]], "Submitted | NotSubmitted | Unclear"]
"""What the batch system's answer to a submit means: {"rc", "out", "err"}."""


class Ingest:
    """Folds answers of one site into the ledger."""

    def __init__(
        self, ledger: Ledger, definitions: Definitions, site: int, policy: Policy, now: float, receipts: Receipts = lambda _: Unclear("not understood")
    ) -> None:
        self.ledger, self.db, self.definitions, self.receipts = ledger, ledger.db, definitions, receipts
        self.site, self.policy, self.now = site, policy, now
        self.result = Ingested()
        self.observed = sites.observed_of(self.db, site)
        self._touched: set[int] = set()
        self._sought: set[str] = set()
        """Cards that were asked back, and are not in the inbox."""
        self._taken = False

    def __call__(self, answer: Answer) -> Ingested:
        with self.ledger.write():
            self._clock(answer)
            self._applied(answer.applied or {})
            listed = self._listing(answer.agents)
        self._journals(answer)
        with self.ledger.write():
            self._ends(listed)
            self._nowhere(answer)
            sites.ended_by_clock(self.db, self.site, self.policy)
            sites.overdue(self.db, self.site, self.observed, self.policy)
            self.db.execute("UPDATE site SET strange = strange + ? WHERE id = ?", (self.result.strange, self.site))
        self.result.datasets = frozenset(self._touched)
        return self.result

    def _fold(self) -> Fold:
        return Fold(self.ledger, self.definitions, self.now, observed=self.observed, backoff=self.policy.backoff)

    def _close(self, fold: Fold) -> None:
        fold.flush()
        self.result.accepted += fold.accepted
        self.result.strange += fold.refused
        self._touched |= fold.touched
        if self._taken:
            self.db.execute("UPDATE site SET young = 0, hold = 0 WHERE id = ? AND young > 0", (self.site,))
            self._taken = False

    # -- time and orders ----------------------------------------------------------------------------------------

    def _clock(self, answer: Answer) -> None:
        """Observed time grows by the login node's clock, never by more than a gap's worth, never across another host's."""
        owner = answer.owner or {}
        host, boot, remote = owner.get("host"), owner.get("boot"), owner.get("now")
        row = self.db.execute("SELECT host, boot, remote FROM site WHERE id = ?", (self.site,)).fetchone()
        gap = 0.0
        if isinstance(remote, (int, float)) and row[2] is not None and (row[0], row[1]) == (host, boot):
            gap = min(max(0.0, float(remote) - float(row[2])), self.policy.gap)
        self.observed += gap
        self.db.execute(
            "UPDATE site SET host = ?, boot = ?, remote = ?, observed = ?, answered = ?, unreachable = NULL, login = NULL, failures = 0, reason = NULL "
            "WHERE id = ?",
            (host, boot, remote, self.observed, self.now, self.site),
        )
        sites.silence(self.db, self.site, gap, self.policy)

    def _applied(self, applied: Any) -> None:
        """What became of the orders of the outbox: it is answered, so it goes."""
        serial = applied.get("serial")
        row = self.db.execute("SELECT serial FROM outbox WHERE site = ?", (self.site,)).fetchone()
        if row is None or serial != row[0]:
            return
        fold = self._fold()
        for card, word in (applied.get("recall") or {}).items():
            if word == "recalled":
                self._withdraw(fold, card)
            else:
                self._sought.add(card)
        for agent, said in (applied.get("fence") or {}).items():
            known = self.db.execute("SELECT id FROM agent WHERE name = ? AND site = ?", (agent, self.site)).fetchone()
            if known is not None:
                sites.agent_event(self.db, known[0], "fenced")
            for card in said.get("unbegun") or ():
                self._withdraw(fold, card, None if known is None else known[0])
        for pilot, said in (applied.get("gather") or {}).items():
            number, begun = bags.gathered(self.db, self.site, pilot, said)
            if number is not None:
                fold.load(read_attempts(self.db, "card", [number], "AND live = 1"))
                for attempt in [one for one in fold.attempts.values() if one.card == number and one.live]:
                    # its job began, and what it had done is gone with it
                    fold.ended(attempt, "gone" if begun else "withdrawn")
        self._close(fold)
        for pilot, said in (applied.get("submit") or {}).items():
            pilots.receipt(self.db, self.site, pilot, self.receipts(said), self.now, self.observed)
        for pilot, said in (applied.get("kill") or {}).items():
            if said.get("rc") != 0:
                pilots.not_ended(self.db, self.site, pilot)
        self.db.execute("DELETE FROM outbox WHERE site = ?", (self.site,))
        self.db.execute("UPDATE site SET serial = ? WHERE id = ?", (serial, self.site))

    def _withdraw(self, fold: Fold, card: str, agent: int | None = None) -> None:
        """A card was taken back from the inbox, or from a fenced agent: that one may have begun it without a word."""
        fold.load(self._of_card(card))
        number = self._card(card)
        for attempt in [one for one in fold.attempts.values() if one.card == number and one.live]:
            if attempt.state in (Attempt.QUEUED, Attempt.CLAIMED):
                attempt.agent = attempt.agent if agent is None else agent
                fold.ended(attempt, "withdrawn")

    def _card(self, card: str) -> int | None:
        try:
            row = self.db.execute("SELECT id FROM card WHERE key = ? AND site = ?", (bytes.fromhex(card), self.site)).fetchone()
        except ValueError:
            return None
        return None if row is None else int(row[0])

    def _of_card(self, card: str) -> list[AttemptRow]:
        number = self._card(card)
        return [] if number is None else read_attempts(self.db, "card", [number], "AND live = 1")

    # -- agents -------------------------------------------------------------------------------------------------

    def _listing(self, agents: Iterable[Any]) -> dict[int, list[str]]:
        """Cards seen in an agent's folder are claimed, whatever its journal says."""
        listed: dict[int, list[str]] = {}
        fold = self._fold()
        for name, _, _, cards, recalled in agents:
            known = sites.agent_row(self.ledger, self.site, name)
            if known is None:
                self.result.strange += 1
                continue
            listed[known[0]] = cards
            for card in recalled:
                self._withdraw(fold, card, known[0])
            for card in cards:
                number = self._card(card)
                if number is not None and self._unclaimed(number):
                    fold.load(self._of_card(card))
                    self._claim(fold, known[0], number)
        self._close(fold)
        return listed

    def _unclaimed(self, card: int) -> bool:
        """Whether the ledger still believes that some attempt of a card waits in the inbox."""
        row = self.db.execute("SELECT 1 FROM attempt WHERE card = ? AND live = 1 AND state = ? LIMIT 1", (card, int(Attempt.QUEUED))).fetchone()
        return row is not None

    def _claim(self, fold: Fold, agent: int, card: int | None) -> None:
        for attempt in [one for one in fold.attempts.values() if one.card == card and one.state == Attempt.QUEUED]:
            fold.progress(attempt, "claimed", agent)
            self._taken = True

    # -- facts --------------------------------------------------------------------------------------------------

    def _journals(self, answer: Answer) -> None:
        """Fold all facts."""
        chunks: dict[tuple[str, str], list[tuple[int, int, bytes]]] = {}
        for name, stream, segment, offset, data in answer.journals:
            chunks.setdefault((name, stream), []).append((segment, offset, data))
        reached: dict[tuple[int, str], Position] = {}
        for (name, stream), parts in sorted(chunks.items(), key=lambda item: item[0][1]):
            known = self.db.execute("SELECT id FROM agent WHERE name = ? AND site = ?", (name, self.site)).fetchone()
            if known is None or stream not in ("journal", "supervisor"):
                continue
            agent = int(known[0])
            row = self.db.execute("SELECT segment, offset, seq FROM stream WHERE agent = ? AND kind = ?", (agent, stream)).fetchone()
            position = Position(*row)
            if stream == "supervisor" and not self._all_read(agent, name, answer, reached):
                continue  # an agent's end is believed only behind its whole journal
            while True:
                facts, after = take(position, parts, FACTS_AT_ONCE, oldest=True)
                if after == position:
                    break
                position = self._transaction(agent, stream, facts, position, after, parts)
            reached[agent, stream] = position
            if stream == "journal" and _unreadable(position, parts):
                with self.ledger.write() as db:
                    pilots.drain_of(db, agent)

    def _all_read(self, agent: int, name: str, answer: Answer, reached: dict[tuple[int, str], Position]) -> bool:
        for listed, _, streams, _, _ in answer.agents:
            if listed == name:
                position = reached.get((agent, "journal"))
                if position is None:
                    position = Position(*self.db.execute("SELECT segment, offset, seq FROM stream WHERE agent = ? AND kind = 'journal'", (agent,)).fetchone())
                segments = streams.get("journal") or []
                if not segments:
                    return True
                # a torn tail is never read: it is enough that all bytes came with this answer
                last, size = max(segments)
                sent = max(
                    (offset + len(data) for one, stream, segment, offset, data in answer.journals if (one, stream, segment) == (name, "journal", last)),
                    default=0,
                )
                return (position.segment, position.offset) >= (last, size) or sent >= size
        return False

    def _transaction(
        self, agent: int, stream: str, facts: list[dict[str, Any]], before: Position, after: Position, parts: list[tuple[int, int, bytes]]
    ) -> Position:
        """Fold as many of these facts as fit a quarter of a second; the position behind them."""
        begin = time.monotonic()
        with self.ledger.write() as db:
            fold = self._fold()
            fold.load_keys({_key(fact["a"]) for fact in facts if "a" in fact})
            cards = {str(fact["card"]) for fact in facts if fact.get("f") == "claimed" and "card" in fact}
            for card in cards:
                fold.load(self._of_card(card))
            done = 0
            for fact in facts:
                self._fact(fold, agent, fact)
                done += 1
                if done % 500 == 0 and time.monotonic() - begin > SECONDS_AT_ONCE:
                    break
            if done < len(facts):
                _, after = take(before, parts, done, oldest=True)
            self._close(fold)
            db.execute(
                "UPDATE stream SET segment = ?, offset = ?, seq = ?, read = ? WHERE agent = ? AND kind = ?",
                (after.segment, after.offset, after.seq, self.now, agent, stream),
            )
            claims = sum(fact.get("f") == "claimed" for fact in facts[:done])
            db.execute("UPDATE agent SET silent = 0, seen = ?, claims = claims + ? WHERE id = ?", (self.now, claims, agent))
            if any(fact.get("f") == "stopped" and fact.get("why") == "idle" for fact in facts[:done]):
                sites.left_idle(db, self.site, agent)
            sites.agent_event(db, agent, "grew")
        self.result.facts += done
        return after

    def _fact(self, fold: Fold, agent: int, fact: dict[str, Any]) -> None:
        word = fact.get("f")
        try:
            if word == "ended":
                attempt = self._ours(fold, fact)
                if attempt is not None:
                    self._ended(fold, attempt, agent, fact)
            elif word == "claimed":
                self._claim(fold, agent, self._card(str(fact.get("card"))))
            elif word in _PROGRESS:
                attempt = self._ours(fold, fact)
                if attempt is not None:
                    fold.progress(attempt, _PROGRESS[word], agent)
            elif word == "started":
                self._started(agent, fact)
            elif word == "software":
                sites.software_found(self.db, agent, fact)
            elif word == "drain":
                self._pilot(agent, "drain")
            elif word in ("stopped", "agent_died"):
                sites.agent_event(self.db, agent, word)
            elif word != "beat":
                self.result.strange += 1
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            # a fact whose fields have other types than the format says is evidence of nothing
            self.result.strange += 1

    def _ours(self, fold: Fold, fact: dict[str, Any]) -> AttemptRow | None:
        """The attempt that this fact is about, if the ledger placed it at this site and the passkey is right."""
        attempt = fold.by_key.get(_key(fact.get("a")))
        if attempt is None or attempt.site != self.site or attempt.passkey != _key(fact.get("k")):
            self.result.strange += 1
            return None
        return attempt

    def _started(self, agent: int, fact: dict[str, Any]) -> None:
        sites.started(self.ledger, agent, fact)
        self._pilot(agent, "agent_started")
        # where each batch job has a card of its own, one that starts and does not take it is no better than one that does not start
        self.db.execute(
            "UPDATE site SET young = 0, hold = 0 WHERE id = ? AND NOT EXISTS "
            "(SELECT 1 FROM agent a JOIN pilot p ON p.id = a.pilot WHERE a.id = ? AND p.card IS NOT NULL)",
            (self.site, agent),
        )

    def _pilot(self, agent: int, event: str) -> None:
        pilot = self.db.execute("SELECT pilot FROM agent WHERE id = ?", (agent,)).fetchone()[0]
        pilots.pilot_event(self.db, pilot, event, self.now, self.observed)

    def _ended(self, fold: Fold, attempt: AttemptRow, agent: int, fact: dict[str, Any]) -> None:
        result = str(fact.get("r"))
        if result not in _ENDS:
            self.result.strange += 1
            return
        outputs = declared_outputs(self.definitions.task_def(fold.tasks[attempt.task].task_def), fact.get("out") or []) if result == "ok" else None
        event = "ended_error" if result == "ok" and outputs is None else f"ended_{result}"
        if not ATTEMPT.knows(Attempt(attempt.state), event):
            fold.refused += 1  # it ended before: what was measured then stays
            self._gone(fold, fact)
            return
        attempt.agent = agent if attempt.agent is None else attempt.agent
        wall = attempt_fields(fact, attempt)
        transferred.record(self.db, attempt.id, fact.get("moved"))
        if isinstance(fact.get("had"), dict):
            attempt.had = self.ledger.name_id(text(json.dumps(fact["had"], separators=(",", ":"), sort_keys=True))[:4000])
        if outputs is not None:
            fold.ok(attempt, outputs, statistics(fact.get("stats")), wall)
        elif result == "ok":
            fold.error(attempt, "stage", "the site reported other outputs than the task declares")
        elif result == "error":
            kind = str(fact.get("kind"))
            kind = kind if kind in ("payload", "resource", "stage", "software", "node") else "node"
            fold.error(attempt, kind, text(fact.get("err") or "")[-4096:], blameless=bool(fact.get("gone")))
            self._gone(fold, fact)
        else:
            fold.ended(attempt, event)

    def _gone(self, fold: Fold, fact: dict[str, Any]) -> None:
        """Inputs that an attempt found to be gone at its site."""
        for origin in fact.get("gone") or () if fact.get("r") == "error" else ():
            files.gone(fold, self.site, [str(part) for part in origin])

    def _nowhere(self, answer: Answer) -> None:
        """A card that was asked back, is not in the inbox and in no agent's folder may have been done without a word that can be read: at the
        second time in a row it is believed lost. If it was not, its late ``ok`` counts as any other."""
        if answer.more or not answer.whole:
            return  # what claims it may stand in what is still to come
        held = {card for _, _, _, cards, _ in answer.agents for card in cards}
        fold = self._fold()
        for card in self._sought - held:
            fold.load(self._of_card(card))
        for attempt in [one for one in fold.attempts.values() if one.live and one.state == Attempt.QUEUED]:
            if sites.sought(self.db, attempt.id) >= 2:
                fold.ended(attempt, "gone")
        self._close(fold)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _ends(self, listed: dict[int, list[str]]) -> None:
        """Attempts of agents that ended: what they had is returned or lost."""
        fold = self._fold()
        ended = self.db.execute(
            "SELECT DISTINCT g.id, g.state FROM attempt a JOIN agent g ON g.id = a.agent WHERE a.live = 1 AND a.site = ? AND g.live = 0", (self.site,)
        ).fetchall()
        # a card that such an agent took with its last breath
        for agent, cards in listed.items():
            state = self.db.execute("SELECT state FROM agent WHERE id = ?", (agent,)).fetchone()[0]
            if state == Agent.ENDED:
                for card in cards:
                    fold.load(self._of_card(card))
                    self._claim(fold, agent, self._card(card))
                ended.append((agent, state))
        for agent in {row[0] for row in ended}:
            fenced = self.db.execute("SELECT fence FROM agent WHERE id = ?", (agent,)).fetchone()[0]
            fold.load(read_attempts(self.db, "agent", [agent], "AND live = 1"))
            for attempt in [one for one in fold.attempts.values() if one.agent == agent and one.live]:
                fold.ended(attempt, "gone" if fenced and attempt.state != Attempt.CLAIMED else "agent_died")
        self._close(fold)


def _unreadable(position: Position, parts: list[tuple[int, int, bytes]]) -> bool:
    """Whether whole lines lie behind what could be read: what the writer tells from here on is lost, as long as it lives."""
    segment, offset, data = parts[-1]
    return segment >= position.segment and b"\n" in (data[max(0, position.offset - offset) :] if segment == position.segment else data)


def _key(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        return b""
