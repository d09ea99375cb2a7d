"""Who works where: a snapshot of classes and sites in, decisions out (hides every rule of placement). Pure.

``plan`` never sees a single task: it costs definitions x sites. The same functions that decide also explain.
"""

from __future__ import annotations

from collections import defaultdict
from math import ceil

from icp.model.plan import Action, ClassView, Deal, DefView, Policy, Recall, Release, SiteView, Snapshot, Submit
from icp.planner.avoiding import eased, has_place
from icp.planner.explain import Reason, avoiding_reason, explain, limit_reason, pilots_reason, standing
from icp.planner.fit import fits, fold_attributes, future_agent, may_fit, new_pilots, site_attributes, slots, slow, soon
from icp.planner.limits import allowed, at_sites, left, within
from icp.planner.pilots import Pouring
from icp.states import Task

__all__ = [
    "Reason", "allowed", "at_sites", "avoiding_reason", "explain", "fits", "fold_attributes", "future_agent", "left", "limit_reason", "may_fit",
    "pilots_reason", "plan", "site_attributes", "slots", "soon", "standing", "within",
]  # fmt: skip

GUESS = 60.0
"""Seconds that a task of a definition is believed to take before one was accepted."""


def plan(snapshot: Snapshot, policy: Policy, now: float) -> list[Action]:
    """Decide: jobs to release, tasks to deal to sites and to call back, pilots to submit and to withdraw."""
    return _Plan(within(snapshot), policy, now).actions()


class _Plan:
    def __init__(self, snapshot: Snapshot, policy: Policy, now: float) -> None:
        self.snapshot, self.policy, self.now = eased(snapshot, now, policy.pending), policy, now
        self.needs = snapshot.needs
        """As they are, with the hosts that they avoid."""
        self.anywhere = {number for number, need in snapshot.needs.items() if need.avoid and not self.snapshot.needs[number].avoid}
        """Needs that avoid hosts, and have no other place."""
        self.datasets = {one.id: one for one in snapshot.datasets}
        self.able: dict[tuple[int, int, frozenset[str] | None], tuple[list[SiteView], list[SiteView]]] = {}
        self.width: dict[tuple[int, int], int] = {}
        self.room: dict[int, float] = {}
        self.places: dict[int, int] = {}
        self.spare: dict[int, float] = {}
        """site -> core seconds of work that its slots, present and to come, do within ``policy.stay`` beyond what is there."""
        self.late: set[int] = set()
        """Sites where only pilots that do not start give room."""
        self.empty: set[int] = set()
        """Sites where nothing is there yet."""
        self.jobs: dict[int, int] = {}
        """site without pilots -> cards that it may still get, each with a batch job of its own"""

    def actions(self) -> list[Action]:
        sites = [site for site in self.snapshot.sites if site.reachable and site.paused is None]
        priority = {one.id: one.priority for one in self.snapshot.datasets}
        pouring = Pouring(self.snapshot, self.policy, self.now, self._seconds)
        self._rooms(sites, pouring.submits)
        waiting = [one for one in self.snapshot.classes if one.state == Task.WAITING and one.need and one.dataset in priority]
        # the highest priority first, then the oldest dataset, then what finishes jobs before what begins them
        waiting.sort(key=lambda one: (-priority[one.dataset], one.dataset, -self._def(one).idx, one.need, one.zone))
        deals: list[Action] = []
        unplaced: set[int] = set()
        for one in waiting:
            if self._place(one, sites, deals):
                unplaced.add(one.dataset)
        submits = [Submit(site.id, pouring.submits[site.id]) for site in sites if pouring.submits[site.id] and not site.spec.direct]
        return [*self._releases(sites, unplaced), *deals, *pouring.recalls, *self._untaken(sites), *pouring.withdraws, *submits]

    def _untaken(self, sites: list[SiteView]) -> list[Recall]:
        """Cards that wait where only hosts are, or will be, that they avoid."""
        there = {site.id: site for site in sites if not site.busy and not site.spec.direct}
        found = []
        for one in self.snapshot.classes:
            if one.state == Task.QUEUED and one.need and one.site in there:
                need = self.needs[one.need]
                if need.avoid and not has_place(need, there[one.site], self.now, self.policy.pending):
                    found.append(Recall(one.task_def, one.need, one.site, one.n, avoiding=True))
        return sorted(found, key=lambda one: (one.site, one.task_def, one.need))

    def _place(self, one: ClassView, sites: list[SiteView], actions: list[Action]) -> int:
        """Deal a class to the sites with room, in the zone of its inputs, and what that has no room for elsewhere; how many tasks are left over."""
        inside, outside = self._able(one.need, one.zone, sites, self.datasets[one.dataset].sites)
        left = self._among(one, one.n, inside, actions)
        if left and outside:
            stay = self._stay(one, left, inside)
            return stay + self._among(one, left - stay, outside, actions)
        return left

    def _stay(self, one: ClassView, left: int, inside: list[SiteView]) -> int:
        """How many of these tasks wait for a slot in the zone of their inputs, because they get one soon."""
        need, stay = self.snapshot.needs[one.need], 0
        seconds = self._seconds(one)
        cost = min(seconds, self.policy.stay) * max(1, need.cpus)
        for site in inside:
            slots_ = soon(need, site, self.now, self.policy.pending) if self.spare[site.id] > 0 else 0
            n = min(left - stay, slots_ * max(1, int(self.policy.stay / seconds)), max(1, int(self.spare[site.id] / cost)))
            if n > 0:
                self.spare[site.id] -= n * cost
                stay += n
        return stay

    def _among(self, one: ClassView, left: int, able: list[SiteView], actions: list[Action]) -> int:
        """Deal so many tasks of a class to those of these sites that have room: where agents are first; how many are left over."""
        room, places = self.room, self.places
        open_ = [site for site in able if room[site.id] > 0 and places[site.id] > 0] if left > 0 else []
        for site in sorted(open_, key=lambda site: (site.id in self.late, site.id in self.empty, -room[site.id])):
            deal = self._deal(one, left, site)
            if deal is not None:
                actions.append(deal)
                left -= deal.n
            if left <= 0:
                break
        return left

    def _able(self, need: int, zone: int, sites: list[SiteView], only: frozenset[str] | None = None) -> tuple[list[SiteView], list[SiteView]]:
        """The sites that this need may run at (``only``: of these): those of this zone (0: of any), and the others."""
        found = self.able.get((need, zone, only))
        if found is None:
            if zone or only is not None:
                able = [site for site in self._able(need, 0, sites)[0] if only is None or site.name in only]
            else:
                what = self.snapshot.needs[need]
                able = [site for site in sites if may_fit(what, site) and (not what.avoid or has_place(what, site, self.now, self.policy.pending))]
            found = ([site for site in able if zone in (0, site.zone)], [site for site in able if zone not in (0, site.zone)])
            self.able[need, zone, only] = found
        return found

    def _def(self, one: ClassView) -> DefView:
        return self.snapshot.defs[one.task_def]

    def _seconds(self, one: ClassView) -> float:
        known = self._def(one).seconds
        return GUESS if known is None else max(known, 0.0005)

    def _bundles(self, one: ClassView) -> bool:
        """Whether several of these may travel in one card: it is known how short they are, and no limit counts those that only wait in it."""
        return self._def(one).seconds is not None and self.datasets[one.dataset].max_running is None

    def _slots(self, need: int, site: SiteView) -> int:
        key = (need, site.id)
        if key not in self.width:
            self.width[key] = slots(self.snapshot.needs[need], site)
        return self.width[key]

    def _rooms(self, sites: list[SiteView], submits: dict[int, int]) -> None:
        """What each site may still take: seconds of work for its slots, less what waits there; and a number of attempts."""
        for site in sites:
            cores = sum(agent.cpus for agent in site.agents if agent.takes)
            coming = [pilot for pilot in site.pilots if pilot.coming]
            prompt = sum(1 for pilot in coming if not slow(pilot, self.policy.pending)) + submits.get(site.id, 0)
            if not cores:
                self.empty.add(site.id)
                if not prompt:
                    self.late.add(site.id)
            all_ = cores + (len(coming) + submits.get(site.id, 0)) * _cores(site)
            self.room[site.id] = 0.0 if site.busy else all_ * self.policy.depth
            self.places[site.id] = 0 if site.busy else self.policy.queue_tasks
            if site.spec.direct:
                self.jobs[site.id] = 0 if site.busy else submits.get(site.id, 0)
                self.room[site.id] = self.jobs[site.id] * self.policy.direct_seconds
            self.spare[site.id] = (all_ + max(0, new_pilots(site, self.now) - submits.get(site.id, 0)) * _cores(site)) * self.policy.stay
        for one in self.snapshot.classes:
            if one.site not in self.room:
                continue
            cpus = max(1, self.snapshot.needs[one.need].cpus) if one.need else 1
            self.spare[one.site] -= one.n * min(self._seconds(one), self.policy.stay) * cpus
            if one.state == Task.QUEUED:
                self.places[one.site] -= one.n
                if one.site not in self.jobs:
                    self.room[one.site] -= one.n * self._seconds(one) * cpus
        for site in sites:
            self.places[site.id] = min(self.places[site.id], self.policy.tick_tasks)

    def _deal(self, one: ClassView, n: int, site: SiteView) -> Deal | None:
        room, places = self.room[site.id], self.places[site.id]
        if room <= 0 or places <= 0:
            return None
        seconds = self._seconds(one)
        if site.id in self.jobs:
            return self._direct(one, min(n, places), site)
        cost = seconds * max(1, self.snapshot.needs[one.need].cpus)
        # the last one may reach beyond: what is left of the room is no room for a lower priority
        n = min(n, places, max(1, ceil(room / cost)))
        width = max(1, self._slots(one.need, site))
        per_card = 1
        if self._bundles(one):
            # two cards for each slot at the least, so that no slot is idle while another has a full card
            per_card = max(1, min(int(self.policy.card_seconds / seconds), self.policy.card_tasks, -(-n // (2 * width))))
        self.room[site.id] -= n * cost
        self.places[site.id] -= n
        return Deal(one.dataset, one.task_def, one.need, one.zone, site.id, n, per_card, anywhere=one.need in self.anywhere)

    def _direct(self, one: ClassView, n: int, site: SiteView) -> Deal | None:
        """As many cards as there may be batch jobs; short tasks, once that is known, travel many to a card, spread evenly."""
        seconds, jobs = self._seconds(one), self.jobs[site.id]
        fill = 1
        if self._bundles(one):
            fill = max(1, min(int(self.policy.direct_seconds / seconds), self.policy.card_tasks))
        n = min(n, jobs * fill)
        if n <= 0:
            return None
        cards = min(jobs, -(-n // fill))
        self.jobs[site.id] -= cards
        self.room[site.id] = self.jobs[site.id] * self.policy.direct_seconds
        self.places[site.id] -= n
        return Deal(one.dataset, one.task_def, one.need, one.zone, site.id, n, -(-n // cards), cards, one.need in self.anywhere)

    def _first_room(self, site: SiteView) -> float:
        """What shows what a site's first pilots, or batch jobs, are needed for."""
        n = new_pilots(site, self.now)
        return n * self.policy.direct_seconds if site.spec.direct else min(n, 1) * _cores(site) * self.policy.depth

    def _releases(self, sites: list[SiteView], unplaced: set[int]) -> list[Action]:
        """More jobs, while some site still has room and nothing of the dataset waits in vain."""
        releases: list[Action] = []
        # a site without pilots has room for what shows what pilots are needed for
        rooms = {site.id: self.room[site.id] or (0.0 if site.busy else self._first_room(site)) for site in sites}
        room = sum(max(0.0, one) for one in rooms.values())
        places = sum(max(0, self.places[site.id]) for site in sites if rooms[site.id] > 0)
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


def _cores(site: SiteView) -> int:
    """What one more pilot would bring."""
    future = future_agent(site)
    return (1 if future is None or site.spec.direct else future.cpus) * site.spec.nodes
