"""How many pilots: the same work poured over agents that are there, pilots that come, and pilots that could come (hides the pouring).

A pilot is worth asking for when it gets work that nothing before it in the order takes. The order of pools is fixed by sites alone, and
what a pool takes only grows with the work: so more work never asks for fewer pilots, and work that several sites could do is shared.

Work is counted in slots: a task fills one, or less where a whole card of such tasks is a card's time of one slot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from icp.model.plan import AgentView, ClassView, Policy, Recall, SiteView, Snapshot, Withdraw
from icp.planner.fit import brings, fits, future_agent, holds, new_pilots, slow
from icp.states import Task

__all__ = ["Pouring"]

_LITTLE = 1e-9


@dataclass(slots=True)
class _Pool:
    """Agents that are alike; ``left`` is how many of them are still free."""

    site: SiteView
    agent: AgentView | None
    """None: nobody knows what it will be, so it holds one task."""
    left: float
    live: bool = False
    new: bool = False
    late: bool = False
    """Its pilots do not start: behind all others."""
    used: bool = False
    later: float = 0.0
    """The same for work that may wait a little for it, in the zone of its inputs."""


@dataclass(slots=True)
class _Portion:
    """Slots of work with one need; ``site`` 0 may go anywhere. ``queued``: the class of which it can be recalled."""

    need: int
    site: int
    slots: float
    queued: ClassView | None = None
    zone: int = 0
    """Where its inputs are."""
    short: bool = False
    """It begins soon enough behind something else."""
    only: frozenset[str] | None = None
    """Names of the sites that it may use."""


def _order(item: tuple[tuple[object, ...], float]) -> tuple[object, ...]:
    """One order, whatever the sites that are allowed."""
    *key, only = item[0]
    assert only is None or isinstance(only, frozenset)
    return (*key, only is not None, sorted(only or ()))


class Pouring:
    """One snapshot's work, poured; ``actions`` are what follows from it."""

    def __init__(self, snapshot: Snapshot, policy: Policy, now: float, seconds: Callable[[ClassView], float]) -> None:
        self.snapshot, self.policy, self.now, self.seconds = snapshot, policy, now, seconds
        self.sites = [site for site in snapshot.sites if site.reachable]
        self.open = {site.id for site in self.sites if site.paused is None}
        self.turn = {site.id for site in self.sites if not site.busy}
        self._names = sorted({term[0] for need in snapshot.needs.values() for clause in need.any for term in clause})
        self._avoided = {host for need in snapshot.needs.values() for host in need.avoid}
        self._room: dict[tuple[int, int], int] = {}
        self._kinds: list[_Pool] = []
        self.submits: dict[int, int] = defaultdict(int)
        """site -> pilots to submit; at a site without pilots: cards that get a batch job"""
        self.recalls: list[Recall] = []
        self.withdraws: list[Withdraw] = []
        self._unknown = False
        """Whether work is to come of which nobody knows yet what it asks for."""
        self._pour()

    # -- work ---------------------------------------------------------------------------------------------------

    def _slots(self, one: ClassView, n: int) -> float:
        return n * min(1.0, self.seconds(one) / self.policy.card_seconds)

    def _portions(self) -> tuple[list[_Portion], list[_Portion], list[_Portion]]:
        """(being done, to be done, to come): what is to come asks for no pilot, and keeps those that there are."""
        active = {one.id: one.sites for one in self.snapshot.datasets}
        stuck = {site.id for site in self.sites if self._stuck(site)}
        direct = {site.id for site in self.sites if site.spec.direct}
        doing: dict[tuple[int, int], float] = defaultdict(float)
        pinned: dict[tuple[int, int], float] = defaultdict(float)
        free: dict[tuple[int, int, bool, frozenset[str] | None], float] = defaultdict(float)
        coming: dict[tuple[int, frozenset[str] | None], float] = defaultdict(float)
        stranded: list[_Portion] = []
        likely: dict[int, ClassView] = {}
        defs, seconds, card = self.snapshot.defs, self.seconds, self.policy.card_seconds
        for one in self.snapshot.classes:
            if not one.need:
                self._unknown |= one.dataset in active
                continue
            if defs[one.task_def].root:
                known = likely.get(one.task_def)
                if known is None or (one.n, one.need) > (known.n, known.need):
                    likely[one.task_def] = one
            slots = one.n * min(1.0, seconds(one) / card)
            if one.state == Task.PROCESSING:
                doing[one.site, one.need] += slots
            elif one.state == Task.QUEUED:
                if one.site in stuck:
                    stranded.append(_Portion(one.need, 0, slots, one, only=active.get(one.dataset)))
                elif one.site not in direct:
                    pinned[one.site, one.need] += slots
            elif one.dataset in active and one.state == Task.WAITING:
                free[one.need, one.zone, one.zone > 0 and seconds(one) < self.policy.stay, active[one.dataset]] += slots
            elif one.dataset in active and one.state == Task.IDLE:
                coming[one.need, active[one.dataset]] += slots
        unreleased = {one.id: one.unreleased for one in self.snapshot.datasets if one.unreleased > 0}
        self._unknown |= bool(unreleased.keys() - {one.dataset for one in likely.values()})
        for one in likely.values():
            free[one.need, 0, False, active.get(one.dataset)] += self._slots(one, unreleased.get(one.dataset, 0))
        stranded.sort(key=lambda one: (one.need, one.queued.site if one.queued else 0, one.queued.task_def if one.queued else 0))
        return (
            [_Portion(need, site, slots) for (site, need), slots in sorted(doing.items())],
            [_Portion(need, site, slots) for (site, need), slots in sorted(pinned.items())]
            + [_Portion(need, 0, slots, None, zone, short, only) for (need, zone, short, only), slots in sorted(free.items(), key=_order)]
            + stranded,
            [_Portion(need, 0, slots, only=only) for (need, only), slots in sorted(coming.items(), key=_order)],
        )

    def _stuck(self, site: SiteView) -> bool:
        """Whether nothing at this site can begin what waits there, and nothing will soon."""
        coming = [pilot for pilot in site.pilots if pilot.coming]
        return not any(agent.takes for agent in site.agents) and all(slow(pilot, self.policy.pending) for pilot in coming)

    # -- pools --------------------------------------------------------------------------------------------------

    def _live(self) -> list[_Pool]:
        """Agents that are there, those that are alike as far as anybody asks in one pool."""
        pools: dict[tuple[object, ...], _Pool] = {}
        for site in self.sites:
            for agent in site.agents:
                left = None if agent.left is None else agent.left // 600
                key = (site.id, agent.cpus, agent.memory, agent.disk, agent.gpus, left, agent.takes, agent.host in self._avoided and agent.host,
                       *map(agent.attrs.get, self._names))  # fmt: skip
                pool = pools.get(key)
                if pool is None:
                    pools[key] = _Pool(site, agent, 1.0, live=True)
                else:
                    pool.left += 1.0
        return list(pools.values())

    def _coming(self, site: SiteView, late: bool) -> _Pool:
        n = 0 if site.spec.direct else sum(1 for pilot in site.pilots if pilot.coming and slow(pilot, self.policy.pending) == late)
        return _Pool(site, future_agent(site), float(n * site.spec.nodes), late=late)

    def _new(self, sites: Sequence[SiteView], *, late: bool = False) -> Iterator[_Pool]:
        """A pilot of each site in turn, so that what fits several is shared."""
        left = {site.id: new_pilots(site, self.now) for site in sites}
        while any(left.values()):
            for site in sites:
                if left[site.id] > 0:
                    left[site.id] -= 1
                    yield _Pool(site, future_agent(site), float(site.spec.nodes), new=True, late=late)

    def _order(self, live: list[_Pool]) -> list[_Pool]:
        """Agents, pilots that come, new ones; where a site's pilots do not start, behind all others."""
        late = [site for site in self.sites if any(slow(pilot, self.policy.pending) for pilot in site.pilots)]
        prompt = [site for site in self.sites if site not in late]
        pools = [*live, *(self._coming(site, False) for site in self.sites), *self._new(prompt)]
        pools = [pool for pool in (*pools, *(self._coming(site, True) for site in late), *self._new(late, late=True)) if pool.left > 0]
        wait = max(0.0, self.policy.stay / self.policy.card_seconds - 1)
        for pool in pools:
            pool.later = 0.0 if pool.late else pool.left * wait
        return pools

    def _holds(self, need: int, pool: _Pool) -> int:
        """Tasks of a need that one agent of this pool takes."""
        key = (need, id(pool.agent) if pool.live else -pool.site.id)
        if key not in self._room:
            what, agent = self.snapshot.needs[need], pool.agent
            if pool.live:
                assert agent is not None
                self._room[key] = holds(what, agent) if agent.takes and fits(what, pool.site, agent) else 0
            else:
                self._room[key] = brings(what, pool.site)
        return self._room[key]

    # -- pouring ------------------------------------------------------------------------------------------------

    def _pour(self) -> None:
        doing, todo, coming = self._portions()
        live = self._live()
        for portion in doing:
            self._fill(portion, [pool for pool in live if pool.site.id == portion.site], self._busy)
        after = [pool.left for pool in live]
        pools = self._order(live)
        by_need: dict[int, list[_Pool]] = {}
        inside: dict[tuple[int, int, frozenset[str] | None], list[_Pool]] = {}
        for portion in todo:
            need, zone = portion.need, portion.zone
            if need not in by_need:
                by_need[need] = [pool for pool in pools if self._holds(need, pool)]
            near = (need, zone, portion.only)
            if zone and near not in inside:
                inside[near] = [pool for pool in self._allowed(portion, by_need[need]) if pool.site.zone == zone and pool.site.id in self.open]
            if zone:
                portion = self._in_zone(portion, inside[near])
            by_need[need] = [pool for pool in by_need[need] if pool.left > _LITTLE]
            self._fill(portion, self._allowed(portion, by_need[need]), self._holds)
        for pool in pools:
            if pool.new and pool.used and not pool.site.busy:
                self.submits[pool.site.id] += 1
        # what would be left over if no pilot came: that keeps those that wait
        for pool, left in zip(live, after, strict=True):
            pool.left = left
        rest: dict[tuple[int, int, frozenset[str] | None], float] = defaultdict(float)
        for portion in todo + coming:
            some = [pool for pool in self._allowed(portion, live) if self._holds(portion.need, pool)]
            rest[portion.need, portion.site, portion.only] += self._fill(portion, some, self._holds, recall=False)
        self._withdraw(rest)

    def _in_zone(self, portion: _Portion, pools: list[_Pool]) -> _Portion:
        """What the zone of its inputs has no place for, nor will have soon."""
        prompt = [pool for pool in pools if not pool.late]
        slots = self._fill(portion, prompt, self._holds)
        for pool in prompt if portion.short else ():
            each = self._holds(portion.need, pool)
            taken = min(slots, pool.later * each)
            pool.later -= taken / each
            slots -= taken
        return replace(portion, slots=slots)

    def _allowed(self, portion: _Portion, pools: Iterable[_Pool]) -> list[_Pool]:
        if portion.site:
            return [pool for pool in pools if pool.site.id == portion.site]
        only = portion.only
        if portion.queued is None:
            return [pool for pool in pools if pool.site.id in self.open and (only is None or pool.site.name in only)]
        # a site without pilots makes no agent that it could be recalled for, only a job once it was recalled: pilots come first
        home = portion.queued.site
        allowed = [pool for pool in pools if pool.site.id == home or (pool.site.id in self.open and (only is None or pool.site.name in only))]
        return sorted(allowed, key=lambda pool: pool.site.spec.direct)

    def _busy(self, need: int, pool: _Pool) -> int:
        """What runs fills its agent, whatever that would claim now."""
        assert pool.agent is not None
        return holds(self.snapshot.needs[need], pool.agent)

    def _fill(self, portion: _Portion, pools: Iterable[_Pool], room: Callable[[int, _Pool], int], *, recall: bool = True) -> float:
        """Pour into these pools, in their order; the slots that are left over."""
        slots = portion.slots
        for pool in pools:
            if slots <= _LITTLE:
                return 0.0
            each = room(portion.need, pool)
            if not each or pool.left <= 0:
                continue
            taken = min(slots, pool.left * each)
            slots -= taken
            pool.left -= taken / each
            pool.used |= taken > _LITTLE
            if recall and (pool.live or pool.site.spec.direct) and portion.queued is not None and pool.site.id != portion.queued.site:
                self._recall(portion.queued, taken)
        return slots if slots > _LITTLE else 0.0

    def _recall(self, one: ClassView, taken: float) -> None:
        """Agents elsewhere are free for it now, or a batch job elsewhere may be made for it."""
        each = self._slots(one, 1)
        n = min(one.n, max(1, int(taken / each + 0.5)))
        if n and one.site in self.turn:
            self.recalls.append(Recall(one.task_def, one.need, one.site, n))

    def _withdraw(self, rest: dict[tuple[int, int, frozenset[str] | None], float]) -> None:
        """Pilots that wait, and would get nothing: all of a site, or those beyond twice what it could use, so that they do not come and go."""
        if self._unknown:
            return
        for site in self.sites:
            pending = sum(1 for pilot in site.pilots if pilot.pending and not pilot.stopping)
            if not pending or site.busy or site.spec.direct:
                continue
            agent, wanted = future_agent(site), 0.0
            pool = _Pool(site, agent, 0.0)
            for (need, at, only), slots in rest.items():
                may = at == site.id or (at == 0 and (only is None or site.name in only))
                if slots > _LITTLE and may and (site.paused is None or at == site.id) and self._holds(need, pool):
                    wanted += slots / self._holds(need, pool) / site.spec.nodes
            keep = 0 if wanted <= _LITTLE else 2 * -int(-wanted // 1)
            if pending > keep:
                self.withdraws.append(Withdraw(site.id, pending - keep))
