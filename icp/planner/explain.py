"""Why a need is not at work, and why a site has no more pilots, decided by what decides (hides the order of what is in the way)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from icp.model.need import Need
from icp.model.plan import ClassView, DatasetView, PilotView, SiteView
from icp.planner.avoiding import elsewhere, only_avoided
from icp.planner.fit import START, fits, fold_attributes, future_agent, may_fit, site_attributes, soon
from icp.planner.limits import allowed, at_sites, left

__all__ = ["Reason", "avoiding_reason", "explain", "limit_reason", "pilots_reason", "standing", "waits"]


@dataclass(frozen=True)
class Reason:
    """Why something does not move: a sentence, and what would mend it ("" where time alone does)."""

    sentence: str
    mend: str = ""
    never: bool = False
    """Nothing of it goes there before a person changes something."""


def avoiding_reason(need: Need, sites: tuple[SiteView, ...], now: float, patience: float, dataset: DatasetView | None = None) -> Reason | None:
    """What it means that a waiting task failed on hosts that it is kept away from since; None where it did not."""
    if not need.avoid:
        return None
    failed = f"it failed on {' and '.join(need.avoid)}"
    if elsewhere(need, sites, now, patience, dataset):
        return Reason(f"{failed}, and goes elsewhere as long as there is another place")
    return Reason(f"{failed}, and there is no other place: it is tried there again")


def explain(
    need: Need,
    sites: tuple[SiteView, ...],
    now: float,
    zone: int = 0,
    dataset: DatasetView | None = None,
    patience: float = math.inf,
    *,
    deals: Collection[int] = (),
    submits: Collection[int] = (),
) -> list[Reason]:
    """Why a waiting task with this need is not at work, site by site, decided by what ``plan`` decides with.

    ``zone``: where its inputs are; ``dataset``: whose it is, and so which sites it may use; ``patience``: how long pilots may take to start.
    ``deals`` and ``submits``: the sites that the plan of this
    moment sends some of it to, and gives pilots to.
    """
    if need.avoid and not elsewhere(need, sites, now, patience, dataset):
        need = replace(need, avoid=())
    near = [site.name for site in sites if zone and site.zone == zone and allowed(dataset, site) and soon(need, site, now)]
    return [
        _not_allowed(site, dataset) if not allowed(dataset, site)
        else _sent(site, site.id in submits) if site.id in deals
        else _at(need, site, now, near if site.zone != zone else [], site.id in submits)
        for site in sites
    ]  # fmt: skip


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
    return Reason(f"site {site.name} is not one of those that the dataset may use ({names})", "icp set DATASET sites any", True)


def _sent(site: SiteView, submits: bool) -> Reason:
    where, sends = f"site {site.name}", "the next tick sends some of it there"
    if any(agent.takes for agent in site.agents):
        return Reason(f"{where} has room for it: {sends}")
    if submits or site.spec.direct:
        return Reason(f"{where} has no {_job(site)} yet: the next tick submits one, and sends some of it there")
    return Reason(f"{where} has {waits(site.pilots) if any(one.pending for one in site.pilots) else 'a pilot that begins'}: {sends}")


def standing(site: SiteView) -> Reason | None:
    """Why nothing at all is sent to a site; None where it takes work."""
    if site.paused is not None:
        return Reason(f"site {site.name} is paused: {site.paused}", f"icp site resume {site.name}", True)
    if not site.reachable and site.login:
        return Reason(f"site {site.name} needs a person's login", f"icp login {site.name}", True)
    if not site.reachable:
        return Reason(f"site {site.name} does not answer", f"icp doctor {site.name}")
    return None


def _at(need: Need, site: SiteView, now: float, near: list[str], submits: bool) -> Reason:
    where = f"site {site.name}"
    stands = standing(site)
    if stands is not None:
        return stands
    if not fold_attributes(need.any, site_attributes(site)):
        return _unmatched(site, f"{where} can never match the requirements ({_required(need)})", never=True)
    if only_avoided(need, site):
        return Reason(f"{where} has no other node than those on which it failed ({', '.join(need.avoid)})")
    if not may_fit(need, site):
        return replace(_too_small(need, site), never=True)
    if near:
        return Reason(f"{where} is not where its inputs are: it goes there when {' and '.join(near)} cannot begin it soon")
    more = pilots_reason(site, now)
    takes = [agent for agent in site.agents if agent.takes]
    if takes:
        fit = any(fits(need, site, agent) for agent in takes)
        failed = not fit and any(fits(replace(need, avoid=()), site, agent) for agent in takes)
        little = "has pilots only where it failed" if failed else "has only pilots that are too small for it, or end too soon"
        what = "is busy with what came before" if fit else little
        return Reason(f"{where} {what}" + (f"; {more.sentence.replace(where, 'it', 1)}" if more is not None else ""))
    if more is not None:
        return more
    job = "batch job for it" if site.spec.direct else "pilot"
    if submits:
        return Reason(f"{where} has no {job} yet: the next tick submits one, for this or for what comes before it")
    return Reason(f"{where} has no {job}, and gets none while other sites, or what comes before it, can use them")


def _required(need: Need) -> str:
    return " or ".join(" and ".join(f"{a} {op} {value}" for a, op, value in clause) for clause in need.any)


def _unmatched(site: SiteView, said: str, *, never: bool = False) -> Reason:
    return Reason(said, f"icp config set site.{site.name}.attributes.NAME VALUE", never)


def _job(site: SiteView) -> str:
    return "batch job" if site.spec.direct else "pilot"


def _too_small(need: Need, site: SiteView) -> Reason:
    where, walltime = f"site {site.name}", site.spec.walltime
    if walltime is not None and need.time > walltime - START:
        asked = f"its {_job(site)}s end after {walltime} s, and it asks for {need.time} s ({int(START)} s are for the {_job(site)} to begin)"
        return Reason(f"no {_job(site)} of {where} is long enough: {asked}", f'icp config set site.{site.name}.pilot.walltime "{need.time + int(START)} s"')
    if site.spec.direct:
        return _beyond(need, site)
    if may_fit(replace(need, any=((),)), site):
        return _unmatched(site, f"the nodes of {where}, as its pilots found them, never match the requirements ({_required(need)})")
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
    return _unmatched(site, f"site {site.name} does not match the requirements ({_required(need)}), as far as its last node told")


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
        return Reason(f"{where} gets no {job}: pilot.max_pending is 0", f"icp config set site.{site.name}.pilot.max_pending 1", True)
    if len(site.pilots) >= spec.max:
        mend = f"icp config set site.{site.name}.pilot.max {spec.max + 1}"
        return Reason(f"{where} has as many {job}s as pilot.max allows ({spec.max})", mend, spec.max <= 0)
    if site.recent >= spec.rate:
        return Reason(f"{where} got {site.recent} {job}s within the last hour, and pilot.rate is {spec.rate}")
    if site.pilots and future_agent(site) is None:
        return Reason(f"{where} has a pilot of which nobody knows yet what it brings")
    return None
