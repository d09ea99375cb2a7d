"""Why a site takes nothing, and why a pilot waits or ended: what `icp why` says of them (hides where the evidence lies)."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from icp import output, planner
from icp.commands.arguments import plural
from icp.commands.reasons import Answer
from icp.engine.shipments import lacking
from icp.ledger import views
from icp.ledger.snapshot import read_site

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.views import PilotView, SiteView

__all__ = ["of_pilot", "of_site"]

ENDED = 3
"""Pilots that ended, shown as evidence."""


def of_site(db: Any, config: Config, name: str, now: float) -> list[Answer] | None:
    """The site's own state, then each of its pilots that waits; None where no site is called so."""
    view = next((one for one in views.sites(db) if one.name == name), None)
    if view is None:
        return None
    answers = [_site(db, config, view, now)]
    answers += [_pilot(one, now) for one in views.pilots(db, site=name) if one.state in ("submitting", "pending") or one.stopping]
    return answers


def of_pilot(db: Any, beginning: str, now: float) -> list[Answer] | None:
    """Pilots whose id begins so; None where there is none."""
    if not re.match(r"[0-9a-fA-F]{4,16}\Z", beginning):
        return None
    found = views.pilots(db, beginning=beginning)
    return [_pilot(one, now) for one in found] or None


def _site(db: Any, config: Config, view: SiteView, now: float) -> Answer:
    about, resume = f"site {view.name}", f"icp site resume {shlex.quote(view.name)}"
    pilots = ", ".join(f"{n} {state}" for state, n in view.pilots.items()) or "none"
    what = "batch jobs" if view.direct else "pilots"
    evidence = [f"{what}: {pilots}; {view.busy} of {plural(view.slots, 'slot')} busy, {plural(view.queued, 'task')} queued"]
    evidence += [f"pilot {one.pilot} {one.state} {output.ago(one.ended or one.made, now)}: {one.reason}"
                 for one in views.pilots(db, site=view.name, ended=ENDED) if one.ended is not None and one.reason]  # fmt: skip
    if view.paused is not None:
        return Answer(about, "draining" if view.draining else "paused", view.paused, tuple(evidence), resume)
    if view.login is not None:
        mend = f"icp login {shlex.quote(view.name)}"
        return Answer(about, "needs login", f"it lets nobody in without a person since {output.clock(view.login)}; what runs there goes on",
                      (view.reason or "", *evidence), mend)  # fmt: skip
    if not view.reachable:
        return Answer(about, "unreachable", f"it does not answer since {output.clock(view.unreachable_since)}", (view.reason or "", *evidence))
    configured = config.sites.get(view.name)
    if configured is None:
        return Answer(about, "gone", "it is not in the configuration any more, so it gets nothing new", tuple(evidence))
    known = read_site(db, (view.name, configured.attributes, configured.pilot), now)
    reason = None if known is None else planner.pilots_reason(replace(known, lacks=lacking(config.places, configured.shipped)), now)
    if reason is None:
        gets = "batch jobs, one for each card," if configured.pilot.direct else "pilots"
        return Answer(about, "ready", f"nothing is in its way: it gets {gets} when there is work that fits it", tuple(evidence))
    return Answer(about, "limited", reason.sentence, tuple(evidence), reason.mend)


def _pilot(one: PilotView, now: float) -> Answer:
    about, job = f"pilot {one.pilot}", f"job {one.job} at site {one.site}" if one.job else f"no job is known at site {one.site}"
    evidence = [f"{job}, submitted {output.ago(one.made, now)}"]
    if one.word:
        evidence.append(f"the batch system says: {one.word}" + (f" ({one.said})" if one.said else ""))
    if one.stopping:
        evidence.append("its end was ordered" + (f": {one.reason}" if one.reason else ""))
    if one.never:
        return Answer(about, one.state, f"it waits for what never comes: {one.never.replace('site.NAME', f'site.{one.site}')}", tuple(evidence))
    if one.state == "submitting":
        return Answer(about, one.state, one.reason or "its submission was not answered yet", tuple(evidence))
    if one.state == "pending":
        return Answer(about, one.state, "it waits in the queue" + (f": {one.said}" if one.said else ""), tuple(evidence))
    if one.ended is not None:
        return Answer(about, one.state, one.reason or f"it ended {output.ago(one.ended, now)}", tuple(evidence))
    sentence = f"it runs, with {plural(one.agents, 'agent')}" if one.agents else "it runs, and no agent of it was seen yet"
    return Answer(about, one.state, sentence, tuple(evidence))
