"""One pass of the engine over all sites (hides the order in which parts are called, and where a kill may fall)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from icp.backends.base import Unknown
from icp.backends.spool_client import Hello, Query
from icp.config import Config
from icp.engine import pilots as orders_of_pilots
from icp.engine.acting import Acting
from icp.engine.chaining import Followers
from icp.engine.dealing import Dealer
from icp.engine.home import Home, part_path
from icp.engine.lines import Exchanger, Lines
from icp.engine.orders import Orders
from icp.engine.place import Place, found
from icp.engine.rendering import Rendering
from icp.engine.shipments import Provisions, lacking
from icp.engine.transfers import LARGE, Put, Transfers
from icp.errors import IcpError
from icp.ledger import avoided, bags, cached, cards, files, following, notices, pilots, sites, upkeep
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.files import Coming
from icp.ledger.fold import Fold
from icp.ledger.ingest import Ingest
from icp.ledger.snapshot import SiteConfig, read_snapshot
from icp.model.exchange import PASSING, Answer
from icp.model.plan import Release, Snapshot
from icp.pilot import faults
from icp.planner import plan

__all__ = ["Engine", "Ticked"]

GROUPS_AT_ONCE = 20_000
NEWS = 5.0
"""Seconds between two conversations with another host while it has news; up to ``run.pause`` while it has none."""


@dataclass(slots=True)
class Ticked:
    """What a tick did; ``more``: there is something to do at once."""

    facts: int = 0
    accepted: int = 0
    files: int = 0
    attempts: int = 0
    more: bool = False
    working: bool = False
    """Something of ours is at a site, or on its way."""
    here: bool = False
    """... at a site on this machine."""
    answered: set[str] = field(default_factory=set)
    """Sites that could be talked to."""
    troubles: dict[str, str] = field(default_factory=dict)
    """site -> why it could not be talked to, to be said after its name"""
    mute: dict[str, str] = field(default_factory=dict)
    """site -> why its batch system tells nothing, though the site answers"""
    refused: dict[str, str] = field(default_factory=dict)
    """site -> why its spool refuses this ledger"""
    untold: list[str] = field(default_factory=list)
    """Events of which the person could not be told, and why."""
    alone: bool = False
    """No site but those that refuse: there is nothing that this engine could do."""


class Engine:
    """The engine of one ledger; the caller holds its lock and has taken its lease.

    ``exchanger`` replaces the conversation with a site (tests lose, double and delay answers with it); ``clock`` is the time.
    """

    def __init__(
        self, ledger: Ledger, config: Config, *, clock: Callable[[], float] = time.time, exchanger: Exchanger | None = None
    ) -> None:
        self.ledger, self.db, self.config, self.clock = ledger, ledger.db, config, clock
        self.definitions = Definitions(ledger.db)
        self.rendering = Rendering(ledger.db, self.definitions)
        self.followers = Followers(ledger, self.definitions, self.rendering)
        self.lines = Lines(config, exchanger)
        self.sites = {name: found(ledger, config, site) for name, site in config.sites.items()}
        self.provisions = Provisions(config.places)
        for place in self.sites.values():
            self.provide(place)
        self.turn: list[Place] = []
        self.acting = Acting(self)
        self._paced = False
        self.incoming, self.relay = config.places.state / "incoming", config.places.state / "relay"
        if ledger.meta("relay") != str(self.relay):
            with ledger.write():
                ledger.set_meta("relay", str(self.relay))
        self.transfers = Transfers(self.lines, self.incoming)
        # simulated conversations carry all
        self.large = LARGE if exchanger is None else float("inf")
        self._forget()

    def exchange(self, name: str, hello: Hello, query: Query) -> Answer | Unknown:
        """One conversation with a site, now: for what is not a tick."""
        site = self.sites[name]
        return self.lines.exchange(site.config, site.spool, hello, query)

    def provide(self, site: Place) -> None:
        """Have what the site's pilots may look for fetched, beside the ticks, if it is not here yet."""
        site.unshipped, site.refused = "", False
        site.shipped = self.provisions.begin(site.config.name, site.config.shipped)

    def take_provisions(self) -> None:
        for name, outcome in self.provisions.outcomes():
            site = self.sites[name]
            if isinstance(outcome, IcpError):
                site.unshipped = outcome.message
            else:
                site.shipped = outcome

    def close(self) -> None:
        """Leave: conversations under way are cut; what came of large files stays, and they go on from there another time."""
        self.provisions.close()
        self.transfers.leave()
        self.lines.close()
        self.transfers.close()

    # -- a tick -------------------------------------------------------------------------------------------------

    def tick(self, patience: float | None = None) -> Ticked:
        """Plan, act, exchange, ingest.

        ``patience``: one of many ticks: sites that have not answered after so many seconds are left to a later one, and other hosts are not
        talked to before they are due. None: all sites, however long they take.
        """
        self._paced = patience is not None
        result = Ticked()
        now = self.clock()
        self.take_provisions()
        self.take_transfers(result)
        result.more |= self.followers.tick(now)
        self._prepare(now)
        self.turn = self._turn()
        snapshot = self._snapshot()
        actions = plan(snapshot, self.config.policy, now)
        if any(isinstance(action, Release) for action in actions):
            self.acting.release([action for action in actions if isinstance(action, Release)], now)
            snapshot = self._snapshot()
            actions = plan(snapshot, self.config.policy, now)
        views = {view.id: view for view in snapshot.sites if not view.busy}
        for site in self.turn:
            site.view, site.orders = views.get(site.id), Orders()
        self.acting.act([a for a in actions if not isinstance(a, Release)], snapshot, now, result)
        asked = {one for site in self.turn for one in site.orders.asked}
        for site in self.sites.values():
            if site.id in asked:
                site.due, result.more = 0.0, True
        faults.visit("engine.outbox")
        self._talk(result, patience)
        self._finish(result)
        return result

    def _turn(self) -> list[Place]:
        """Sites that are talked to in this tick: their last conversation is over, and they are due."""
        busy, now = self.lines.busy, time.monotonic()
        due = {site.config.host for site in self.sites.values() if site.due <= now}
        return [site for site in self.sites.values() if site.config.name not in busy and (not self._paced or site.config.host in due)]

    def next_due(self) -> float:
        """When (time.monotonic) the next site on another host is due; this machine's are at any time."""
        busy = self.lines.busy
        return min((site.due for site in self.sites.values() if site.config.host is not None and site.config.name not in busy), default=float("inf"))

    def hurry(self) -> None:
        """A person ordered something, or something is there to be sent on: all sites are due."""
        for site in self.sites.values():
            site.due = 0.0

    def _site_configs(self) -> list[SiteConfig]:
        return [(site.config.name, site.config.attributes, site.config.pilot) for site in self.sites.values()]

    def _snapshot(self) -> Snapshot:
        with self.ledger.read() as db:
            others = set(self.sites) - {site.config.name for site in self.turn}
            found = read_snapshot(db, self.definitions, self._site_configs(), self.clock(), others)
        return replace(found, sites=tuple(replace(view, lacks=self._lacks(self.sites[view.name])) for view in found.sites))

    def _lacks(self, site: Place) -> str | None:
        """No pilot goes where what it would look for is not here yet."""
        return lacking(self.config.places, site.config.shipped) if site.shipped is None else None

    def fold(self, now: float) -> Fold:
        """For the transaction that begins."""
        self.rendering.fresh()
        return Fold(self.ledger, self.definitions, now, backoff=self.config.policy.backoff)

    def dealer(self, fold: Fold, now: float) -> Dealer:
        return Dealer(self.ledger, self.definitions, self.rendering, fold, self.config.policy, now, self.relay, self.large)

    def _prepare(self, now: float) -> None:
        """What does not need a plan: groups counted, final tasks made, needs rendered anew, sums corrected."""
        with self.ledger.write() as db:
            notices.silence(db, now)
            self.ledger.set_meta("last_tick", now)
            for dataset in upkeep.ungrouped(db):
                self.dealer(self.fold(now), now).groups(dataset, GROUPS_AT_ONCE)
        with self.ledger.write() as db:
            fold = self.fold(now)
            dealer = self.dealer(fold, now)
            dealer.finals()
            avoided.release(fold, now, self.config.policy)
            for dataset, task_def in upkeep.needless(db):
                dealer.renew_needs(dataset, task_def)
            fold.flush()
            upkeep.correct_summaries(db)
            upkeep.complete(db, self.definitions, now)
            files.sweep(db, self.definitions)
            cached.over(db)
        self._unlink()

    def _unlink(self) -> None:
        """Remove what nobody reads any more from the relay cache, and what began to come and is not wanted any more: the ledger says so for good by now."""
        gone = files.unlinking(self.db)
        if not gone:
            return
        for file, attempt, digest in gone:
            files.relay_path(self.relay, file, digest).unlink(missing_ok=True)
            part_path(self.incoming, attempt, file).unlink(missing_ok=True)
            faults.visit("engine.unlinked")
        with self.ledger.write() as db:
            files.unlinked(db, [one[0] for one in gone])
        for folder in (self.relay, self.incoming):
            Home.clear(folder)

    # -- exchange and ingest ------------------------------------------------------------------------------------

    def _talk(self, result: Ticked, patience: float | None) -> None:
        """All sites side by side; each is ingested when its answer is there."""
        prepared = [(site, *self._conversation(site)) for site in self.turn]
        self.lines.begin([(site.config, site.spool, hello, query) for site, hello, query in prepared if hello is not None])
        faults.visit("engine.sent")
        for config, answer in self.lines.answers(patience):
            faults.visit("engine.answered")
            site = self.sites[config.name]
            site.due = time.monotonic() + self._pause(site, news=self._answered(site, answer, result))

    def _pause(self, site: Place, *, news: bool | None) -> float:
        """Seconds until this site is due: few while it has news, none while it has more to say (None)."""
        if site.config.host is None or news is None:
            return 0.0
        site.calm = min(NEWS if news else max(NEWS, 2 * site.calm), self.config.pause)
        return site.calm

    def _conversation(self, site: Place) -> tuple[Hello | None, Query]:
        """What goes to a site in this tick; nothing at all if it has nothing of ours and gets nothing."""
        db = self.db
        serial, epoch = sites.standing(db, site.id)
        box = cards.outbox_of(db, site.id)
        streams = sites.positions(db, site.id)
        wanted = files.coming(db, site.id, 2000, self.relay)
        site.left = pilots.left(db, site.id, account=site.config.scheduler != "none" and site.config.accounting is not False)
        if box is None and not site.left and not sites.anything_there(db, site.id) and not sites.asked_after(db, site.id):
            return None, Query()
        told = site.left or site.fresh or pilots.listed(db, site.id)
        asked = site.batch.questions(self.ledger.uuid, list(site.left.values()), site.config.accounting) if told else []
        site.large = [one for one in wanted if one.size > self.large]
        site.home = Home((one for one in wanted if one.size <= self.large), self.incoming)
        with self.ledger.write():
            files.set_collecting(db, [one.file for one in (*site.home.wanted.values(), *site.home.present, *site.large) if one.kept])
            files.arrived(db, self.definitions, site.home.present)
        hello = Hello(self.ledger.uuid, epoch, serial if box is None else box[0], None if box is None else (box[1], box[2]), new=serial == 0)
        if hello.orders is not None:
            assert hashlib.sha256(hello.orders[0]).hexdigest() == hello.orders[1]
        site.query = Query(streams=streams, want=site.home.asked, batch=asked, fenced=sites.fenced(db, site.id), ended=pilots.ended_young(db, site.id))
        return hello, site.query

    def _answered(self, site: Place, answer: Answer | Unknown, result: Ticked) -> bool | None:
        """Whether there was news in it; None if it had more to say."""
        now = self.clock()
        if isinstance(answer, Unknown):
            login = self.lines.needs_login(site.config)
            result.troubles[site.config.name] = f"needs a login: `icp login {site.config.name}`" if login else f"does not answer: {answer.why}"
            with self.ledger.write() as db:
                sites.unreachable(db, site.id, answer.why, now, login=login)
            return False
        if answer.refused is not None:
            if answer.refused in PASSING:
                result.troubles[site.config.name] = f"does not answer: {answer.refused}"
            else:
                result.refused[site.config.name] = answer.refused
            with self.ledger.write() as db:
                sites.unreachable(db, site.id, f"refused: {answer.refused}", now)
            return True
        result.answered.add(site.config.name)
        understood = partial(orders_of_pilots.meaning, site.batch, site.config)
        done = Ingest(self.ledger, self.definitions, site.id, self.config.policy, now, understood)(answer)
        if site.query.batch:
            known = orders_of_pilots.states(site.batch, self.ledger.uuid, answer, site.query.batch, site.left)
            if isinstance(known, Unknown):
                if answer.whole:
                    result.mute[site.config.name] = known.why
                    with self.ledger.write() as db:
                        sites.mute(db, site.id, known.why)
            else:
                site.fresh = False
                with self.ledger.write() as db:
                    pilots.settle_pilots(db, site.id, known, now, self.config.policy.margin, answer.tails, site.left)
                    if cards_begun := bags.hear(db, site.id, known):
                        fold = self.fold(now)
                        bags.begun(fold, cards_begun)
                        fold.flush()
        arrived = self._home(site, answer, now, result)
        self._begin_transfers(site)
        faults.visit("engine.ingested")
        result.facts += done.facts
        result.accepted += done.accepted
        result.files += arrived
        more = answer.more or (arrived > 0 and bool(files.coming(self.db, site.id, 1, self.relay)))
        result.more |= more
        return None if more else bool(done.facts or arrived or answer.applied)

    def _home(self, site: Place, answer: Answer, now: float, result: Ticked) -> int:
        if site.home is None or not site.home.asked:
            return 0
        arrived = site.home.take(answer)
        with self.ledger.write() as db:
            files.arrived(db, self.definitions, arrived)
            self._unwanted(arrived)
            if any(not one.kept for one in arrived):
                # some task waits for it elsewhere
                result.more = True
                self.hurry()
            if site.home.failed:
                fold = self.fold(now)
                for one, _ in site.home.failed:
                    files.missing(fold, one)
                fold.flush()
        Home.clear(self.incoming)
        return len(arrived)

    # -- large files --------------------------------------------------------------------------------------------

    def _begin_transfers(self, site: Place) -> None:
        """The site answers: what is large may travel."""
        puts: list[tuple[bytes, int, Path | bytes]] = []
        for digest, size, path in cached.sending(self.db, site.id):
            if not self.transfers.knows(site.config.name, digest):
                puts.append((digest, size, cards.blob(self.db, digest) if path is None else path))
        if site.large or puts:
            self.transfers.begin(site.config, site.spool, site.large, puts)

    def take_transfers(self, result: Ticked) -> None:
        """Write down what became of large files."""
        for one in list(self.transfers.outcomes()):
            site = self.sites[one.site]
            site.due = 0.0  # what waits for it, or goes on, is not kept waiting
            with self.ledger.write() as db:
                if isinstance(one, Put):
                    if one.there:
                        cached.arrived(db, site.id, one.digest)
                    elif one.gone:
                        cached.unsendable(db, site.id, one.digest)
                    continue
                if one.home:
                    files.arrived(db, self.definitions, [one.file])
                    result.files += 1
                    result.more = True
                elif one.missing:
                    fold = self.fold(self.clock())
                    files.missing(fold, one.file)
                    fold.flush()
                self._unwanted([one.file])
            if one.home and not one.file.kept:
                self.hurry()
        Home.clear(self.incoming)

    def _unwanted(self, some: Iterable[Coming]) -> None:
        """What came although nobody wanted it any more goes."""
        for one in some:
            if not files.wanted(self.db, one.file):
                part_path(self.incoming, one.attempt, one.file).unlink(missing_ok=True)
                if not one.kept:
                    one.target.unlink(missing_ok=True)

    def _forget(self) -> None:
        """An engine that died may have left what nobody wants any more."""
        for folder in (self.incoming, self.relay):
            for path in folder.iterdir() if folder.is_dir() else ():
                file = path.suffix[1:]
                if not file.isdigit() or not files.wanted(self.db, int(file)):
                    path.unlink(missing_ok=True)
            Home.clear(folder)

    def _finish(self, result: Ticked) -> None:
        with self.ledger.write() as db:
            upkeep.complete(db, self.definitions, self.clock())
        result.more |= bool(following.due(self.db))
        there = [site for site in self.sites.values() if sites.anything_there(self.db, site.id)]
        result.working = bool(there)
        result.alone = set(result.refused) == set(self.sites)
        result.here = any(site.config.host is None for site in there)
        self.ledger.checkpoint()
