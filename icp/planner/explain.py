"""Why a need is not at work, and why a site has no more pilots, decided by what decides (hides the order of what is in the way)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from icp.model.need import Need
from icp.model.plan import ClassView, DatasetView, PilotView, SiteView
from icp.planner.avoiding import elsewhere, only_avoided
from icp.planner.fit import START, fold_attributes, future_agent, may_fit, site_attributes, soon
from icp.planner.limits import allowed, at_sites, left

__all__ = ["Reason", "avoiding_reason", "explain", "limit_reason", "pilots_reason", "waits"]


@dataclass(frozen=True)
class Reason:
    """Why something does not move: a sentence, and what would mend it ("" where time alone does)."""

    sentence: str
    mend: str = ""


def avoiding_reason(need: Need, sites: tuple[SiteView, ...], now: float, patience: float, dataset: DatasetView | None = None) -> Reason | None:
    """What it means that a waiting task failed on hosts that it is kept away from since; None where it did not."""
    if not need.avoid:
        return None
    failed = f"it failed on {' and '.join(need.avoid)}"
    if elsewhere(need, sites, now, patience, dataset):
        return Reason(f"{failed}, and goes elsewhere as long as there is another place")
    return Reason(f"{failed}, and there is no other place: it is tried there again")


def explain(
    need: Need, sites: tuple[SiteView, ...], now: float, zone: int = 0, dataset: DatasetView | None = None, patience: float = math.inf
) -> list[Reason]:
    """Why a waiting task with this need is not at work, site by site, decided by what ``plan`` decides with.

    ``zone``: where its inputs are; ``dataset``: whose it is, and so which sites it may use; ``patience``: how long pilots may take to start.
    """
    if need.avoid and not elsewhere(need, sites, now, patience, dataset):
        need = replace(need, avoid=())
    near = [site.name for site in sites if zone and site.zone == zone and allowed(dataset, site) and soon(need, site, now)]
    return [_at(need, site, now, near if site.zone != zone else []) if allowed(dataset, site) else _not_allowed(site, dataset) for site in sites]


def limit_reason(dataset: DatasetView, classes: Iterable[ClassView]) -> Reason | None:
    """Why no more of a dataset goes to any site; None where no limit of its own is in the way."""
    classes = tuple(classes)
    if left(dataset, classes) != 0:
        return None
    there = at_sites(classes, dataset.id)
    mend = f"icp set DATASET max-running {2 * (dataset.max_running or 1)}"
    return Reason(f"the dataset may run {dataset.max_running} at once, and {there} {'is' if there == 1 else 'are'} at sites", mend)


def _not_allowed(site: SiteView, dataset: DatasetView | None) -> Reason:
    names = ", ".join(sorted(dataset.sites or ())) if dataset else ""
    return Reason(f"site {site.name} is not one of those that the dataset may use ({names})", "icp set DATASET sites any")


def _at(need: Need, site: SiteView, now: float, near: list[str]) -> Reason:
    where = f"site {site.name}"
    if site.paused is not None:
        return Reason(f"{where} is paused: {site.paused}", f"icp site resume {site.name}")
    if not site.reachable and site.login:
        return Reason(f"{where} needs a person's login", f"icp login {site.name}")
    if not site.reachable:
        return Reason(f"{where} does not answer")
    if not fold_attributes(need.any, site_attributes(site)):
        said = " or ".join(" and ".join(f"{a} {op} {value}" for a, op, value in clause) for clause in need.any)
        return Reason(f"{where} can never match the requirements ({said})", f"icp config set site.{site.name}.attributes.NAME VALUE")
    if only_avoided(need, site):
        return Reason(f"{where} has no other node than those on which it failed ({', '.join(need.avoid)})")
    if not may_fit(need, site):
        return _too_small(need, site)
    if near:
        return Reason(f"{where} is not where its inputs are: it goes there when {' and '.join(near)} cannot begin it soon")
    if not any(agent.takes for agent in site.agents):
        return pilots_reason(site, now) or Reason(f"{where} has no {'batch job for it' if site.spec.direct else 'pilot'} yet: the next tick submits one")
    more = pilots_reason(site, now)
    return Reason(f"{where} is busy with what came before" + (f"; {more.sentence}" if more is not None else ""))


def _job(site: SiteView) -> str:
    return "batch job" if site.spec.direct else "pilot"


def _too_small(need: Need, site: SiteView) -> Reason:
    where, walltime = f"site {site.name}", site.spec.walltime
    if walltime is not None and need.time > walltime - START:
        asked = f"its {_job(site)}s end after {walltime} s, and it asks for {need.time} s ({int(START)} s are for the {_job(site)} to begin)"
        return Reason(f"no {_job(site)} of {where} is long enough: {asked}", f'icp config set site.{site.name}.pilot.walltime "{need.time + int(START)} s"')
    if site.spec.direct:
        return _beyond(need, site)
    node = site.agents[0] if site.agents else future_agent(site)
    has = "" if node is None else f" (it has {node.cpus} cpus, {node.memory // 10**6} MB of memory, {node.disk // 10**6} MB of disk, {node.gpus} gpus)"
    asks = f"{need.cpus} cpus, {need.memory // 10**6} MB of memory, {need.disk // 10**6} MB of disk, {need.gpus} gpus"
    return Reason(f"no node of {where} is large enough{has}: it asks for {asks}", "lower `resources` in the steering file")


def _beyond(need: Need, site: SiteView) -> Reason:
    """What is configured for a pilot bounds what a batch job may ask for."""
    spec, mb = site.spec, 10**6
    for name, unit in (("cpus", 1), ("memory", mb), ("disk", mb), ("gpus", 1)):
        asked, most = getattr(need, name), getattr(spec, name)
        if most is not None and asked > most:
            key, figure = f"site.{site.name}.pilot.{name}", -(-asked // unit)
            said = f"it asks for {figure}{' MB of' if unit > 1 else ''} {name}, and pilot.{name} is {most // unit}"
            return Reason(f"no batch job of site {site.name} may be large enough: {said}", f"icp config set {key} {figure}")
    said = " or ".join(" and ".join(f"{a} {op} {value}" for a, op, value in clause) for clause in need.any)
    mend = f"icp config set site.{site.name}.attributes.NAME VALUE"
    return Reason(f"site {site.name} does not match the requirements ({said}), as far as its last node told", mend)


def waits(pilots: tuple[PilotView, ...], job: str = "pilot") -> str:
    """"2 pilots waiting to start (Priority)": how many wait, and the commonest reason that the batch system gives."""
    pending = [pilot for pilot in pilots if pilot.pending]
    said = Counter(pilot.said for pilot in pending if pilot.said)
    why = f" ({said.most_common(1)[0][0]})" if said else ""
    return f"{len(pending)} {job}{'s' if len(pending) != 1 else ''} waiting to start{why}"


def pilots_reason(site: SiteView, now: float) -> Reason | None:
    """Why a site has not more pilots; None where nothing is in the way."""
    where, spec, job = f"site {site.name}", site.spec, _job(site)
    if now < site.hold:
        how = "did not run what they were for" if spec.direct else "ended without an agent"
        return Reason(f"{where} submits no {job} for another {int(site.hold - now)} s: the last ones {how}")
    if site.lacks is not None:
        return Reason(f"{where} submits no {job} before {site.lacks} is fetched to this machine, to be shipped there")
    pending = [pilot for pilot in site.pilots if pilot.pending]
    never = next((pilot.never for pilot in pending if pilot.never), None)
    if never is not None:
        return Reason(f"{where} has {waits(site.pilots, job)}: {never.replace('site.NAME', f'site.{site.name}')}")
    if any(pilot.starting for pilot in site.pilots) and not spec.direct:
        return Reason(f"{where} has a pilot that begins")
    if pending:
        most = f", and pilot.max_pending is {spec.max_pending}" if len(pending) >= spec.max_pending else ""
        return Reason(f"{where} has {waits(site.pilots, job)}{most}")
    if spec.max_pending <= 0:
        return Reason(f"{where} gets no {job}: pilot.max_pending is 0", f"icp config set site.{site.name}.pilot.max_pending 1")
    if len(site.pilots) >= spec.max:
        return Reason(f"{where} has all {spec.max} {job}s that pilot.max allows", f"icp config set site.{site.name}.pilot.max {spec.max + 1}")
    if site.recent >= spec.rate:
        return Reason(f"{where} got {site.recent} {job}s within the last hour, and pilot.rate is {spec.rate}")
    return None
