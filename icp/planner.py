"""Who works where: a snapshot of classes and sites in, decisions out (hides every rule of placement). Pure.

``plan`` never sees a single task: it costs definitions x sites. The same functions that decide also explain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icp.model.need import Disjunction, Need
from icp.model.plan import Action, AgentView, ClassView, Deal, DefView, Policy, Release, SiteView, Snapshot, Submit
from icp.pilot.needs import compare
from icp.states import Task

__all__ = ["Reason", "explain", "fits", "fold_attributes", "plan", "slots", "soon"]

GUESS = 60.0
"""Seconds that a task of a definition is believed to take before one was accepted."""
SLOT = AgentView(cpus=1, memory=1 << 62, disk=1 << 62, gpus=0, attrs={}, until=None)


@dataclass(frozen=True)
class Reason:
    """Why something does not move: a sentence, and what would mend it ("" where time alone does)."""

    sentence: str
    mend: str = ""


def fold_attributes(any_: Disjunction, attributes: Mapping[str, Any]) -> Disjunction:
    """Replace what a site's configuration says by its truth: clauses that are false go, terms that are true go."""
    clauses = []
    for clause in any_:
        rest = []
        for term in clause:
            if term[0] not in attributes:
                rest.append(term)
            elif not compare([[list(term)]], attributes):
                break
        else:
            clauses.append(tuple(rest))
    return tuple(dict.fromkeys(clauses))


def site_attributes(site: SiteView) -> dict[str, Any]:
    """A site's configured attributes; it has CPUs unless it says otherwise."""
    return {"CPU": True, **site.attributes}


def _holds(need: Need, agent: AgentView) -> int:
    """How many tasks with this need run on an agent's node at once."""
    n = agent.cpus // need.cpus if need.cpus else 1 << 20
    for asked, there in ((need.memory, agent.memory), (need.disk, agent.disk), (need.gpus, agent.gpus)):
        if asked:
            n = min(n, there // asked)
    return max(0, n)


def fits(need: Need, site: SiteView, agent: AgentView) -> bool:
    """Whether an agent of a site could run this need; what its configuration says wins over what the agent found."""
    return _holds(need, agent) > 0 and compare([[list(term) for term in clause] for clause in need.any], {**agent.attrs, **site_attributes(site)})


def future_agent(site: SiteView) -> AgentView | None:
    """What a pilot of this site would bring: as configured, otherwise as the last one had; None when nobody knows."""
    spec, node = site.spec, site.node
    if node is None and spec.cpus is None:
        return None
    base = node or SLOT
    return AgentView(
        cpus=spec.cpus if spec.cpus is not None else base.cpus,
        memory=spec.memory if spec.memory is not None else base.memory,
        disk=spec.disk if spec.disk is not None else base.disk,
        gpus=spec.gpus if spec.gpus is not None else base.gpus,
        attrs=base.attrs,
        until=None,
    )


def may_fit(need: Need, site: SiteView) -> bool:
    """Whether the site's pilots, present or to come, could run this need; a site nobody has seen inside may."""
    if not fold_attributes(need.any, site_attributes(site)):
        return False
    if any(fits(need, site, agent) for agent in site.agents):
        return True
    future = future_agent(site)
    return future is None or fits(need, site, future)


def slots(need: Need, site: SiteView) -> int:
    """Tasks of this need that the site runs at once when its pilots are all there (1 where nobody knows yet)."""
    now = sum(_holds(need, agent) for agent in site.agents if not agent.suspect and fits(need, site, agent))
    future = future_agent(site)
    each = 1 if future is None else (_holds(need, future) if fits(need, site, future) else 0)
    return now + each * site.spec.nodes * sum(1 for pilot in site.pilots if pilot.pending)


def soon(need: Need, site: SiteView, now: float) -> int:
    """The same with the pilots that may still be submitted there: 0 for a site that cannot be waited for."""
    if not site.reachable or site.paused is not None or not may_fit(need, site):
        return 0
    pending = sum(1 for pilot in site.pilots if pilot.pending)
    more = max(0, min(site.spec.max - len(site.pilots), site.spec.max_pending - pending)) if now >= site.hold else 0
    future = future_agent(site)
    each = 1 if future is None else (_holds(need, future) if fits(need, site, future) else 0)
    return slots(need, site) + each * site.spec.nodes * more


def plan(snapshot: Snapshot, policy: Policy, now: float) -> list[Action]:
    """Decide: jobs to release, tasks to deal to sites, pilots to submit."""
    return _Plan(snapshot, policy, now).actions()


class _Plan:
    def __init__(self, snapshot: Snapshot, policy: Policy, now: float) -> None:
        self.snapshot, self.policy, self.now = snapshot, policy, now
        self.able: dict[tuple[int, int], tuple[list[SiteView], list[SiteView]]] = {}
        self.width: dict[tuple[int, int], int] = {}
        self.room: dict[int, float] = {}
        self.places: dict[int, int] = {}
        self.wanted: dict[int, float] = defaultdict(float)
        """site -> seconds of work that wait for it: what pilots are asked for."""
        self.backlog: dict[tuple[int, int, bool], float] = defaultdict(float)
        """(need, zone, whether in that zone) -> seconds of work for which none of these sites has room."""
        self.spare: dict[int, float] = {}
        """site -> core seconds of work that its slots, present and to come, do within ``policy.stay`` beyond what is there."""

    def actions(self) -> list[Action]:
        sites = [site for site in self.snapshot.sites if site.reachable and site.paused is None]
        priority = {one.id: one.priority for one in self.snapshot.datasets}
        self._rooms(sites)
        waiting = [one for one in self.snapshot.classes if one.state == Task.WAITING and one.need and one.dataset in priority]
        # the highest priority first, then the oldest dataset, then what finishes jobs before what begins them
        waiting.sort(key=lambda one: (-priority[one.dataset], one.dataset, -self._def(one).idx, one.need, one.zone))
        actions: list[Action] = []
        unplaced: set[int] = set()
        for one in waiting:
            left = self._place(one, sites, actions)
            if left:
                unplaced.add(one.dataset)
        for (need, zone, inside), work in self.backlog.items():
            for site in self._able(need, zone, sites)[0 if inside else 1]:
                self.wanted[site.id] += work
        actions = [*self._releases(sites, unplaced), *actions]
        actions += self._submits(sites)
        return actions

    def _place(self, one: ClassView, sites: list[SiteView], actions: list[Action]) -> int:
        """Deal a class to the sites with room, in the zone of its inputs, and what that has no room for elsewhere; how many tasks are left over."""
        inside, outside = self._able(one.need, one.zone, sites)
        left = self._among(one, one.n, inside, actions, inside=True)
        if left and outside:
            stay = self._stay(one, left, inside)
            return stay + self._among(one, left - stay, outside, actions, inside=False)
        return left

    def _stay(self, one: ClassView, left: int, inside: list[SiteView]) -> int:
        """How many of these tasks wait for a slot in the zone of their inputs, because they get one soon."""
        need, stay = self.snapshot.needs[one.need], 0
        seconds = self._seconds(one)
        cost = min(seconds, self.policy.stay) * max(1, need.cpus)
        for site in inside:
            slots_ = soon(need, site, self.now) if self.spare[site.id] > 0 else 0
            n = min(left - stay, slots_ * max(1, int(self.policy.stay / seconds)), max(1, int(self.spare[site.id] / cost)))
            if n > 0:
                self.spare[site.id] -= n * cost
                stay += n
        return stay

    def _among(self, one: ClassView, left: int, able: list[SiteView], actions: list[Action], *, inside: bool) -> int:
        """Deal so many tasks of a class to those of these sites that have room, the emptiest first; how many are left over."""
        room, places = self.room, self.places
        open_ = [site for site in able if room[site.id] > 0 and places[site.id] > 0]
        seconds = self._seconds(one)
        if left <= 0 or not open_:
            # the usual case of a long queue: all sites that could do it share the wish for pilots
            self.backlog[one.need, one.zone, inside] += left * seconds
            return left
        for site in sorted(open_, key=lambda site: -room[site.id]):
            self.wanted[site.id] += left * seconds
            deal = self._deal(one, left, site)
            if deal is not None:
                actions.append(deal)
                left -= deal.n
            if left <= 0:
                return 0
        for site in able:
            if site not in open_:
                self.wanted[site.id] += left * seconds
        return left

    def _able(self, need: int, zone: int, sites: list[SiteView]) -> tuple[list[SiteView], list[SiteView]]:
        """The sites that this need may run at: those of this zone (0: of any), and the others."""
        found = self.able.get((need, zone))
        if found is None:
            able = self._able(need, 0, sites)[0] if zone else [site for site in sites if may_fit(self.snapshot.needs[need], site)]
            found = ([site for site in able if zone in (0, site.zone)], [site for site in able if zone not in (0, site.zone)])
            self.able[need, zone] = found
        return found

    def _def(self, one: ClassView) -> DefView:
        return self.snapshot.defs[one.task_def]

    def _seconds(self, one: ClassView) -> float:
        known = self._def(one).seconds
        return GUESS if known is None else max(known, 0.0005)

    def _slots(self, need: int, site: SiteView) -> int:
        key = (need, site.id)
        if key not in self.width:
            self.width[key] = slots(self.snapshot.needs[need], site)
        return self.width[key]

    def _rooms(self, sites: list[SiteView]) -> None:
        """What each site may still take: seconds of work for its slots, less what waits there; and a number of attempts."""
        for site in sites:
            cores = sum(agent.cpus for agent in site.agents if not agent.suspect)
            future = future_agent(site)
            pending = sum(1 for pilot in site.pilots if pilot.pending)
            more = max(0, min(site.spec.max - len(site.pilots), site.spec.max_pending - pending)) if self.now >= site.hold else 0
            pending = pending or int(not site.agents and min(site.spec.max, site.spec.max_pending) > 0)
            cores += pending * site.spec.nodes * (future.cpus if future is not None else 1)
            self.room[site.id] = 0.0 if site.busy else cores * self.policy.depth
            self.places[site.id] = 0 if site.busy else self.policy.queue_tasks
            self.spare[site.id] = (cores + more * site.spec.nodes * (future.cpus if future is not None else 1)) * self.policy.stay
        for one in self.snapshot.classes:
            if one.site not in self.room:
                continue
            cpus = max(1, self.snapshot.needs[one.need].cpus) if one.need else 1
            self.spare[one.site] -= one.n * min(self._seconds(one), self.policy.stay) * cpus
            if one.state == Task.QUEUED:
                self.room[one.site] -= one.n * self._seconds(one) * cpus
                self.places[one.site] -= one.n
                self.wanted[one.site] += one.n * self._seconds(one)
        for site in sites:
            self.places[site.id] = min(self.places[site.id], self.policy.tick_tasks)

    def _deal(self, one: ClassView, n: int, site: SiteView) -> Deal | None:
        room, places = self.room[site.id], self.places[site.id]
        if room <= 0 or places <= 0:
            return None
        seconds = self._seconds(one)
        cost = seconds * max(1, self.snapshot.needs[one.need].cpus)
        n = min(n, places, max(1, int(room / cost)))
        width = max(1, self._slots(one.need, site))
        per_card = 1
        if self._def(one).seconds is not None:
            # two cards for each slot at the least, so that no slot is idle while another has a full card
            per_card = max(1, min(int(self.policy.card_seconds / seconds), self.policy.card_tasks, -(-n // (2 * width))))
        self.room[site.id] -= n * cost
        self.places[site.id] -= n
        return Deal(one.dataset, one.task_def, one.need, one.zone, site.id, n, per_card)

    def _releases(self, sites: list[SiteView], unplaced: set[int]) -> list[Action]:
        """More jobs, while some site still has room and nothing of the dataset waits in vain."""
        releases: list[Action] = []
        room = sum(max(0.0, self.room[site.id]) for site in sites)
        places = sum(max(0, self.places[site.id]) for site in sites)
        roots: dict[int, float] = defaultdict(float)
        for one in self.snapshot.defs.values():
            if one.root:
                roots[one.dataset] += GUESS if one.seconds is None else max(one.seconds, 0.0005)
        for dataset in sorted(self.snapshot.datasets, key=lambda one: (-one.priority, one.id)):
            if room <= 0 or places <= 0:
                break
            if dataset.unreleased <= 0 or dataset.id in unplaced:
                continue
            each = roots[dataset.id]
            jobs = min(dataset.unreleased, self.policy.release_jobs, places, int(room / each) + 1)
            releases.append(Release(dataset.id, jobs))
            room -= jobs * each
            places -= jobs
        return releases

    def _submits(self, sites: list[SiteView]) -> list[Action]:
        """As many pilots as the work that fits a site would keep busy, within its limits."""
        submits: list[Action] = []
        for site in sites:
            live = len(site.pilots)
            pending = sum(1 for pilot in site.pilots if pilot.pending)
            work = self.wanted[site.id]
            if site.busy or work <= 0 or live >= site.spec.max or pending >= site.spec.max_pending or self.now < site.hold:
                continue
            future = future_agent(site)
            cores = (future.cpus if future is not None else 1) * site.spec.nodes
            # one pilot's worth: enough work to keep its slots busy for a card's time
            enough = -(-work // max(1.0, cores * self.policy.card_seconds))
            n = int(min(site.spec.max - live, site.spec.max_pending - pending, max(1.0, enough - pending)))
            if n > 0 and (live == 0 or enough > live):
                submits.append(Submit(site.id, n))
        return submits


def explain(need: Need, sites: tuple[SiteView, ...], now: float, zone: int = 0) -> list[Reason]:
    """Why a waiting task with this need is not at work, site by site, decided by what ``plan`` decides with; ``zone``: where its inputs are."""
    reasons = []
    near = [site.name for site in sites if zone and site.zone == zone and soon(need, site, now)]
    for site in sites:
        where = f"site {site.name}"
        if site.paused is not None:
            reasons.append(Reason(f"{where} is paused: {site.paused}", f"icp site resume {site.name}"))
        elif not site.reachable:
            reasons.append(Reason(f"{where} does not answer"))
        elif not fold_attributes(need.any, site_attributes(site)):
            said = " or ".join(" and ".join(f"{a} {op} {value}" for a, op, value in clause) for clause in need.any)
            reasons.append(Reason(f"{where} can never match the requirements ({said})", f"icp config set site.{site.name}.attributes.NAME VALUE"))
        elif not may_fit(need, site):
            node = site.agents[0] if site.agents else future_agent(site)
            has = "" if node is None else f" (it has {node.cpus} cpus, {node.memory // 10**6} MB of memory, {node.disk // 10**6} MB of disk, {node.gpus} gpus)"
            asks = f"{need.cpus} cpus, {need.memory // 10**6} MB of memory, {need.disk // 10**6} MB of disk, {need.gpus} gpus"
            reasons.append(Reason(f"no node of {where} is large enough{has}: it asks for {asks}", "lower `resources` in the steering file"))
        elif near and site.zone != zone:
            reasons.append(Reason(f"{where} is not where its inputs are: it goes there when {' and '.join(near)} cannot begin it soon"))
        elif now < site.hold:
            reasons.append(Reason(f"{where} submits no pilot for another {int(site.hold - now)} s: the last ones ended without an agent"))
        elif not site.agents:
            pending = sum(1 for pilot in site.pilots if pilot.pending)
            reasons.append(Reason(f"{where} has {pending} pilots waiting to start" if pending else f"{where} has no pilot yet: the next tick submits one"))
        else:
            reasons.append(Reason(f"{where} is busy with what came before"))
    return reasons
