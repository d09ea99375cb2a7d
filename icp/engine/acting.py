"""What was decided becomes intent and orders, in one transaction; what cannot be rendered is set aside (hides the kinds of orders)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from icp.backends.spool_client import order
from icp.dsl.expand import SiteContext
from icp.engine import pilots as orders_of_pilots
from icp.engine.dealing import Dealer
from icp.engine.orders import Direct, Orders
from icp.engine.place import Place
from icp.errors import BadInput, IcpError
from icp.ledger import avoided, bags, cached, cards, files, pilots, sites, upkeep
from icp.ledger.fold import Fold
from icp.model.plan import Deal, Recall, Release, Snapshot, Submit, Withdraw
from icp.pilot import faults

if TYPE_CHECKING:
    from icp.engine.tick import Engine, Ticked

__all__ = ["Acting"]


class Acting:
    """Carries out what the planner decided, for one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def release(self, releases: list[Release], now: float) -> None:
        for action in releases:
            try:
                with self.engine.ledger.write():
                    fold = self.engine.fold(now)
                    self.engine.dealer(fold, now).release(action)
                    fold.flush()
            except IcpError as error:
                self._cannot_render(action.dataset, error, now)

    def _cannot_render(self, dataset: int, error: IcpError, now: float) -> None:
        """A job whose expressions have no value stops its dataset, with the reason: nothing else is held up by it."""
        self.engine.rendering.forget_needs()
        with self.engine.ledger.write() as db:
            upkeep.suspend(db, dataset, error.message)
            self.engine.ledger.audit(now, "suspended by the engine", dataset, error.message)

    def act(self, actions: list[Deal | Submit | Withdraw | Recall], snapshot: Snapshot, now: float, result: Ticked) -> None:
        """Intent and outbox in one transaction; a dataset that cannot be rendered is set aside and the rest done again."""
        for site in self.engine.turn:
            if site.refused and site.view is not None and site.view.paused is None:
                self.engine.provide(site)  # somebody said that it can be had now
        while True:
            try:
                with self.engine.ledger.write():
                    fold = self.engine.fold(now)
                    made = self._orders(actions, snapshot, fold, now)
                    faults.visit("engine.intent")
                    fold.flush()
                    for site in self.engine.turn:
                        if site.orders.frames() and cards.outbox_of(self.engine.db, site.id) is None:
                            cards.put_outbox(self.engine.db, site.id, site.orders.frames(), now)
                result.attempts += made
                result.more |= made >= self.engine.config.policy.tick_tasks
                return
            except _Unrenderable as error:
                self._cannot_render(error.dataset, error.error, now)
                actions = [a for a in actions if not (isinstance(a, Deal) and a.dataset == error.dataset)]
                for site in self.engine.turn:
                    site.orders = Orders()

    def _orders(self, actions: list[Deal | Submit | Withdraw | Recall], snapshot: Snapshot, fold: Fold, now: float) -> int:
        made = 0
        dealer = self.engine.dealer(fold, now)
        free = {site.id: site for site in self.engine.turn if cards.outbox_of(self.engine.db, site.id) is None and site.view is not None}
        for action in actions:
            if isinstance(action, Withdraw) and action.site in free:
                pilots.withdraw(self.engine.db, action.site, action.n)
            elif isinstance(action, Recall) and action.site in free:
                if action.avoiding:
                    avoided.recall(self.engine.db, action.site, action.task_def, action.need)
                else:
                    cards.recall(self.engine.db, action.site, action.task_def, action.need, action.n)
        for site in free.values():
            self._housekeeping(site, fold)
        shipped = {one.id: self._ship(one, dealer) for one in free.values()}
        for action in actions:
            site_or_none = free.get(action.site)
            if site_or_none is None:
                continue  # its last orders are not answered yet
            site = site_or_none
            if not shipped[site.id] and (isinstance(action, Submit) or site.config.pilot.direct):
                continue  # its pilots would look for it
            assert site.view is not None
            if isinstance(action, Deal):
                context = SiteContext(site.config.name, {"CPU": True, **site.config.attributes}, site.config.system)
                try:
                    made += dealer.deal(action, site.view, context, site.orders, snapshot)
                except IcpError as error:
                    raise _Unrenderable(action.dataset, error) from None
            elif isinstance(action, Submit):
                for _ in range(action.n):
                    self._pilot(site, now)
        for of, direct in [(one, direct) for one in free.values() for direct in one.orders.direct]:
            self._pilot(of, now, direct)
        return made

    def _housekeeping(self, site: Place, fold: Fold) -> None:
        """Orders that follow from states: recalls, cancels, fences, drops, acknowledgements."""
        others = site.orders.others
        others += [order("gather", {"pilot": pilot}) for pilot in bags.match_cards(self.engine.db, site.id, direct=site.config.pilot.direct)]
        recall, cancel = cards.stops(fold, site.id)
        others += [order("recall", {"card": card}) for card in recall]
        others += [order("cancel", {"attempt": attempt}) for attempt in cancel]
        others += [order("fence", {"agent": name}) for name in sites.fences(self.engine.db, site.id, self.engine.config.policy)]
        others += [order("drop", {"attempt": attempt}) for attempt in files.drops(self.engine.db, site.id, 5000)]
        site.orders.drops = set(cached.drops(self.engine.db, site.id, 5000))
        kept_since = self.engine.clock() - self.engine.config.policy.retention
        others += [order("drop", {"card": card}) for card in cards.old_logs(self.engine.db, site.id, kept_since)]
        others += [order("drop", {"pilot": pilot}) for pilot in pilots.over(self.engine.db, site.id, kept_since)]
        for name, kind, segment in sites.read_streams(self.engine.db, site.id, kept_since):
            others.append(order("ack", {"agent": name, "stream": kind, "segment": segment}))
        for ending in pilots.endings(self.engine.db, site.id):
            others.append(orders_of_pilots.end_order(site.config, site.batch, self.engine.ledger.uuid, ending))

    def _ship(self, site: Place, dealer: Dealer) -> bool:
        """Whether the site has all that its pilots may look for, or gets it with these orders."""
        if site.unshipped:
            if not site.refused:
                pilots.refuse(self.engine.db, site.id, site.unshipped)
                site.refused = True
            return False
        if site.shipped is None:
            return False  # it is being fetched
        there = True
        try:
            for digest, path in site.shipped:
                there &= dealer.inputs.ship(0, digest, path, site.id, site.orders, f"site.{site.config.name}")
        except IcpError as error:
            pilots.refuse(self.engine.db, site.id, error.message)
            return False
        return there

    def _pilot(self, site: Place, now: float, direct: Direct | None = None) -> None:
        """A pilot's row, and the order that submits it; ``direct``: the card that it is there for, which is in the same orders, before it."""
        key = os.urandom(8)
        config = site.config if direct is None else orders_of_pilots.sized(site.config, direct.need, direct.seconds)
        try:
            ordered = orders_of_pilots.submit_order(config, site.spool, site.batch, self.engine.ledger.uuid, key.hex(), direct.name if direct else None)
        except BadInput as error:
            pilots.refuse(self.engine.db, site.id, "; ".join(error.mistakes or (error.message,)))
            return
        pilots.make_pilot(self.engine.db, site.id, key, config.pilot, now, card=direct.card if direct else None, bag=not config.shared)
        site.orders.others.append(ordered)


class _Unrenderable(Exception):
    def __init__(self, dataset: int, error: IcpError) -> None:
        super().__init__(error.message)
        self.dataset, self.error = dataset, error
