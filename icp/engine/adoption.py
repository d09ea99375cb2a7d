"""`icp ledger adopt`: a restored or copied ledger becomes the spool's master again (hides epochs and the replay of journals).

The epoch is raised first, so that whatever else still uses the spool is refused from then on. Then the ledger learns what the
spool knows: cards that it lacks are made into attempts again from their own content, jobs that took a card along into pilots, all
journals are read from the beginning, and attempts whose card is nowhere and of which no journal speaks go again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from icp.backends.base import Unknown
from icp.backends.spool_client import Hello, Query
from icp.config import Config
from icp.engine import pilots as orders_of_pilots
from icp.engine.lines import Exchanger
from icp.engine.place import Place
from icp.engine.tick import Engine
from icp.errors import Failed, Unreachable
from icp.ledger import adoption, pilots, sites
from icp.ledger.db import Ledger
from icp.ledger.ingest import Ingest
from icp.model.batch import Submitted
from icp.model.exchange import Answer

__all__ = ["Adopted", "adopt"]


@dataclass(slots=True)
class Adopted:
    """What one site brought."""

    site: str
    epoch: int
    facts: int = 0
    accepted: int = 0
    remade: int = 0
    unknown: list[str] = field(default_factory=list)
    """Cards of datasets that this ledger does not know, or of jobs that it holds back: recalled and cancelled."""
    gone: int = 0
    """Attempts that the spool knows nothing of."""


def adopt(ledger: Ledger, config: Config, *, clock: Callable[[], float] = time.time, exchanger: Exchanger | None = None) -> list[Adopted]:
    """Take the spools of all sites over; the caller holds the engine's lock. Unreachable if a site does not answer.

    ``clock`` and ``exchanger`` as of an Engine.
    """
    ledger.take_lease(clock())
    engine = Engine(ledger, config, clock=clock, exchanger=exchanger)
    try:
        return [_site(engine, name) for name in engine.sites]
    finally:
        engine.close()


def _site(engine: Engine, name: str) -> Adopted:
    ledger, site = engine.ledger, engine.sites[name]
    with ledger.write() as db:
        serial, epoch = adoption.raise_epoch(db, site.id)
    while True:
        answer = engine.exchange(name, Hello(ledger.uuid, epoch, serial, None, new=True), Query(cards=True))
        if isinstance(answer, Unknown):
            raise Unreachable(f"site {name} does not answer: {answer.why}", "`icp ledger adopt` again when it does; until then nothing is sent to it")
        if answer.refused != "copy":
            break
        # somebody adopted it meanwhile, or this ledger is older than the last adoption
        with ledger.write() as db:
            serial, epoch = adoption.raise_epoch(db, site.id)
    if answer.refused is not None:
        raise Failed(f"site {name} refuses: {answer.refused}")
    done = Adopted(name, epoch)
    with ledger.write():
        seen = _cards(engine, site.id, answer, done) | _bags(engine, site, answer, done)
        adoption.order_away(ledger, site.id, done.unknown, answer.stored)
    _facts(engine, site.id, name, answer, epoch, serial, done)
    with ledger.write():
        fold = engine.fold(engine.clock())
        done.gone = adoption.forget_unseen(fold, site.id, seen)
        fold.flush()
        ledger.audit(engine.clock(), "adopt", None, f"site {name}, epoch {epoch}")
    return done


def _cards(engine: Engine, site: int, answer: Answer, done: Adopted) -> set[bytes]:
    """Every card at the site is an attempt of the ledger's again, if it can be."""
    seen: set[bytes] = set()
    for path, body in answer.cards:
        name = path.rpartition("/")[2]
        try:
            card: dict[str, Any] = json.loads(body)
            key = bytes.fromhex(card["card"])
        except (ValueError, KeyError, TypeError):
            continue
        seen.add(key)
        _remake(engine, site, card, int(name[:4]), done)
    return seen


def _remake(engine: Engine, site: int, card: dict[str, Any], rank: int, done: Adopted) -> None:
    """Attempts of a card that this ledger lacks are made again from it."""
    made = adoption.remake(engine.ledger, engine.definitions, site, card, rank, engine.clock(), _release(engine))
    if made is None:
        done.unknown.append(card["card"])
    else:
        done.remade += made


def _bags(engine: Engine, site: Place, answer: Answer, done: Adopted) -> set[bytes]:
    """Every card that went with its job is an attempt again, and its job is a pilot again: what it brings back will be gathered. The cards."""
    seen: set[bytes] = set()
    for about, body in answer.bags:
        try:
            pilot = bytes.fromhex(about["pilot"])
            key = None
            if about["name"] is not None:
                card: dict[str, Any] = json.loads(body)
                key = bytes.fromhex(card["card"])
                seen.add(key)
                _remake(engine, site.id, card, int(about["name"][:4]), done)
            elif about["gathered"]["card"] is not None:
                key = bytes.fromhex(about["gathered"]["card"])
        except (ValueError, KeyError, TypeError):
            continue
        if adoption.pilot_again(engine.db, site.id, pilot, key, about.get("told"), engine.clock()):
            receipt = about.get("receipt")
            meaning = orders_of_pilots.meaning(site.batch, site.config, receipt) if isinstance(receipt, dict) else None
            if isinstance(meaning, Submitted):
                pilots.receipt(engine.db, site.id, about["pilot"], meaning, engine.clock(), sites.observed_of(engine.db, site.id))
    return seen


def _release(engine: Engine) -> Any:
    """Makes the rows of one job that the restored ledger had not released yet."""

    def make(dataset: int, job: int) -> None:
        fold = engine.fold(engine.clock())
        engine.dealer(fold, engine.clock()).release_one(dataset, job)
        fold.flush()

    return make


def _facts(engine: Engine, site: int, name: str, answer: Answer, epoch: int, serial: int, done: Adopted) -> None:
    while True:
        ingested = Ingest(engine.ledger, engine.definitions, site, engine.config.policy, engine.clock())(answer)
        done.facts += ingested.facts
        done.accepted += ingested.accepted
        if not answer.more or not answer.journals:
            return
        again = engine.exchange(
            name, Hello(engine.ledger.uuid, epoch, serial, None), Query(streams=sites.positions(engine.db, site))
        )
        if isinstance(again, Unknown) or again.refused is not None:
            raise Unreachable(f"site {name} stopped answering while its journals were read", "`icp ledger adopt` again")
        answer = again
