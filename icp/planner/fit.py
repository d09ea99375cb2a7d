"""Which need fits which agent, there or to come (hides what a pilot that is not there yet will bring)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from icp.model.need import Disjunction, Need
from icp.model.plan import AgentView, PilotView, SiteView
from icp.pilot.needs import compare

__all__ = [
    "START", "SUBMITS", "brings", "fits", "fold_attributes", "future_agent", "holds", "may_ever", "may_fit", "new_pilots", "site_attributes", "slots", "slow",
    "soon",
]  # fmt: skip

START = 60.0
"""Seconds of a pilot's walltime that are gone before its agent claims."""
SUBMITS = 10
"""Pilots that one exchange submits at the most: a batch system that hangs costs a minute for each."""
ANY = AgentView(cpus=1 << 30, memory=1 << 62, disk=1 << 62, gpus=1 << 30, attrs={}, left=None)
SLOT = AgentView(cpus=1, memory=1 << 62, disk=1 << 62, gpus=0, attrs={}, left=None)


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


def holds(need: Need, agent: AgentView) -> int:
    """How many tasks with this need run on an agent's node at once."""
    n = agent.cpus // need.cpus if need.cpus else 1 << 20
    for asked, there in ((need.memory, agent.memory), (need.disk, agent.disk), (need.gpus, agent.gpus)):
        if asked:
            n = min(n, there // asked)
    return max(0, n)


def fits(need: Need, site: SiteView, agent: AgentView) -> bool:
    """Whether an agent of a site could run this need; what its configuration says wins over what the agent found."""
    if holds(need, agent) <= 0 or (agent.left is not None and need.time > agent.left) or agent.host in need.avoid:
        return False
    return compare([[list(term) for term in clause] for clause in need.any], {**agent.attrs, **site_attributes(site)})


def future_agent(site: SiteView) -> AgentView | None:
    """What a pilot of this site would bring: as configured, otherwise as the last one had; None when nobody knows."""
    spec, node = site.spec, site.node
    if spec.direct:
        node = ANY if node is None else replace(ANY, attrs=node.attrs, host=node.host)
    elif node is None and spec.cpus is None:
        return None
    base = node or SLOT
    return AgentView(
        cpus=spec.cpus if spec.cpus is not None else base.cpus,
        memory=spec.memory if spec.memory is not None else base.memory,
        disk=spec.disk if spec.disk is not None else base.disk,
        gpus=spec.gpus if spec.gpus is not None else base.gpus,
        attrs=base.attrs,
        left=None if spec.walltime is None else max(0.0, spec.walltime - START),
        host=base.host if spec.one_host else None,
    )


def may_ever(need: Need, site: SiteView) -> bool:
    """Whether a pilot to come could run this need; one of a site that nobody has seen inside may, if its walltime is long enough."""
    if not fold_attributes(need.any, site_attributes(site)):
        return False
    future = future_agent(site)
    if future is None:
        return site.spec.walltime is None or need.time <= site.spec.walltime - START
    if site.spec.direct:
        if site.node is None:
            return fits(replace(need, any=((),)), site, future)
        # it gets what it asks for, whatever the last one had asked for
        gpu = need.gpus > 0
        future = replace(future, attrs={**future.attrs, "CPUs": need.cpus, "GPU": gpu, "HasGPU": gpu, "GPUs": need.gpus})
    return fits(need, site, future)


def brings(need: Need, site: SiteView) -> int:
    """How many tasks of this need an agent to come runs at once (1 where nobody knows yet what it will be)."""
    if not may_ever(need, site):
        return 0
    future = future_agent(site)
    return 1 if future is None or site.spec.direct else holds(need, future)


def may_fit(need: Need, site: SiteView) -> bool:
    """Whether the site's pilots, present or to come, could run this need."""
    return may_ever(need, site) or any(fits(need, site, agent) for agent in site.agents)


def slots(need: Need, site: SiteView) -> int:
    """Tasks of this need that the site runs at once when its pilots are all there (1 where nobody knows yet)."""
    if site.spec.direct:
        return 0  # each batch job has its card
    now = sum(holds(need, agent) for agent in site.agents if agent.takes and fits(need, site, agent))
    future = future_agent(site)
    each = 1 if future is None else (holds(need, future) if fits(need, site, future) else 0)
    return now + each * site.spec.nodes * sum(1 for pilot in site.pilots if pilot.coming)


def slow(pilot: PilotView, patience: float) -> bool:
    """Whether this pilot has not started for so long (observed seconds) that work is not kept waiting for it."""
    return pilot.coming and (pilot.never is not None or pilot.waited > patience)


def new_pilots(site: SiteView, now: float) -> int:
    """Pilots that may be submitted at a site now, by all its limits."""
    if now < site.hold or site.lacks is not None or site.paused is not None or not site.reachable:
        return 0
    spec, pending = site.spec, sum(1 for pilot in site.pilots if pilot.pending)
    n = max(0, min(spec.max - len(site.pilots), spec.max_pending - pending, spec.rate - site.recent, SUBMITS))
    if future_agent(site) is None:
        # one goes ahead, to see what they are like
        n = min(n, 0 if site.pilots else 1)
    return n


def soon(need: Need, site: SiteView, now: float, patience: float = math.inf) -> int:
    """Slots with the pilots that may still be submitted there: 0 for a site that cannot be waited for."""
    if not site.reachable or site.paused is not None or not may_fit(need, site):
        return 0
    late = sum(1 for pilot in site.pilots if slow(pilot, patience))
    each = brings(need, site)
    if site.spec.direct:
        return 0 if late else each * new_pilots(site, now)
    return slots(need, site) + each * site.spec.nodes * ((0 if late else new_pilots(site, now)) - late)
