"""Hosts on which tasks failed, and that they are kept away from while there is another place (hides when there is none)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from icp.model.need import Need
from icp.model.plan import DatasetView, SiteView, Snapshot
from icp.planner.fit import fits, may_ever, may_fit, new_pilots, slow
from icp.planner.limits import allowed

__all__ = ["eased", "elsewhere", "has_place", "only_avoided"]


def elsewhere(need: Need, sites: tuple[SiteView, ...], now: float, patience: float, dataset: DatasetView | None = None) -> bool:
    """Whether there is, or soon will be, a place for this need that is none of the hosts that it avoids."""
    return any(allowed(dataset, site) and has_place(need, site, now, patience) for site in sites)


def has_place(need: Need, site: SiteView, now: float, patience: float) -> bool:
    """Whether a site has, or soon will have, such a place."""
    if not site.reachable or site.paused is not None:
        return False
    if not site.spec.direct and any(agent.takes and fits(need, site, agent) for agent in site.agents):
        return True
    if not may_ever(need, site):
        return False
    # pilots that do not start keep no work from other sites, so no work from this host either
    late = any(slow(pilot, patience) for pilot in site.pilots)
    prompt = any(pilot.coming and not slow(pilot, patience) for pilot in site.pilots)
    return prompt or (not late and (new_pilots(site, now) > 0 or (site.spec.direct and bool(site.pilots))))


def only_avoided(need: Need, site: SiteView) -> bool:
    """Whether all that keeps this need from a site is that it avoids the hosts that are there."""
    return bool(need.avoid) and not may_fit(need, site) and may_fit(replace(need, avoid=()), site)


def eased(snapshot: Snapshot, now: float, patience: float) -> Snapshot:
    """The snapshot in which needs that have no other place avoid nothing: better there again than nowhere."""
    shy = {number: need for number, need in snapshot.needs.items() if need.avoid}
    if not shy:
        return snapshot
    datasets = {one.id: one for one in snapshot.datasets}
    asking: dict[int, set[int]] = defaultdict(set)
    for one in snapshot.classes:
        if one.need in shy:
            asking[one.need].add(one.dataset)
    needs = dict(snapshot.needs)
    for number, need in shy.items():
        if not all(elsewhere(need, snapshot.sites, now, patience, datasets.get(one)) for one in asking[number]):
            needs[number] = replace(need, avoid=())
    return replace(snapshot, needs=needs)
