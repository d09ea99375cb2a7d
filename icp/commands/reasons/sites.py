"""Why a site takes nothing, and why a pilot waits or ended: what `icp why` says of them (hides where the evidence lies)."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from icp import output, planner
from icp.commands.arguments import plural
from icp.commands.reasons.teller import GONE, Answer
from icp.engine.shipments import lacking
from icp.ledger import views
from icp.ledger.snapshot import read_site
from icp.model.exchange import refusal

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.views import PilotView, SiteView

__all__ = ["hindered", "of_pilot", "of_site"]

SAYS = {"absent": "does not list its job", "unknown": "cannot say what became of its job"}
ENDED = 3
"""Pilots that ended, shown as evidence."""
ENDINGS = {
    "done": "it did what there was for it, and ended", "failed": "its batch job ended, and not well,", "cancelled": "it was ended, as it was ordered,",
    "lost": "the batch system knows its job no more, and nothing was heard of it: given up",
}  # fmt: skip


def of_site(db: Any, config: Config, name: str, now: float) -> list[Answer] | None:
    """The site's own state, then each of its pilots that waits; None where no site is called so."""
    view = next((one for one in views.sites(db) if one.name == name), None)
    if view is None:
        return None
    answers = [_site(db, config, view, now)]
    answers += [_pilot(db, one, now) for one in views.pilots(db, site=name) if one.state in ("planned", "submitting", "pending") or one.stopping]
    return answers


def of_pilot(db: Any, beginning: str, now: float) -> list[Answer] | None:
    """Pilots whose id begins so; None where there is none."""
    if not re.match(r"[0-9a-fA-F]{4,16}\Z", beginning):
        return None
    found = views.pilots(db, beginning=beginning)
    return [_pilot(db, one, now) for one in found] or None


def hindered(view: SiteView, configured: bool) -> Answer | None:
    """Why a site gets nothing at all, if that is so; ``configured``: whether the configuration names it."""
    about, name = f"site {view.name}", shlex.quote(view.name)
    silent = _silent(view)
    if configured and view.paused is not None:
        evidence = () if silent is None else (silent.sentence, *silent.evidence)
        return Answer(about, "draining" if view.draining else "paused", f"it gets nothing new: {view.paused}", evidence, f"icp site resume {name}")
    if silent is None and not configured:
        return Answer(about, "gone", GONE, (), f"icp site remove {name} --force")
    return silent


def _silent(view: SiteView) -> Answer | None:
    about, name, still = f"site {view.name}", shlex.quote(view.name), "what runs there goes on, and nothing is believed lost"
    why = (view.reason,) if view.reason else ()
    if view.login is not None:
        return Answer(about, "needs login", f"it needs a person's login since {output.clock(view.login)}; {still}", why, f"icp login {name}")
    if view.refuses is not None:
        since = f"since {output.clock(view.unreachable_since)}"
        return Answer(about, "refused", f"it {refusal(view.refuses)}; nothing goes there {since}, and nothing is believed lost", (), "icp ledger adopt")
    if not view.reachable:
        return Answer(about, "unreachable", f"it does not answer since {output.clock(view.unreachable_since)}; {still}", why, f"icp doctor {name}")
    return None


def _site(db: Any, config: Config, view: SiteView, now: float) -> Answer:
    about = f"site {view.name}"
    pilots = ", ".join(f"{n} {state}" for state, n in view.pilots.items()) or "none"
    what = "batch jobs" if view.direct else "pilots"
    evidence = [f"{what}: {pilots}; {view.busy} of {plural(view.slots, 'slot')} busy, {plural(view.queued, 'task')} queued"]
    evidence += [f"pilot {one.pilot} {one.state} {output.ago(one.ended or one.made, now)}: {one.reason}"
                 for one in views.pilots(db, site=view.name, ended=ENDED) if one.ended is not None and one.reason]  # fmt: skip
    held = hindered(view, view.name in config.sites)
    if held is not None:
        return replace(held, evidence=(*held.evidence, *evidence))
    configured = config.sites[view.name]
    if view.reason:
        sentence = "its batch system does not answer; what runs there goes on, and nothing is believed lost"
        return Answer(about, "mute", sentence, (view.reason, *evidence), f"icp doctor {shlex.quote(view.name)}")
    known = read_site(db, (view.name, configured.attributes, configured.pilot), now)
    reason = None if known is None else planner.pilots_reason(replace(known, lacks=lacking(config.places, configured.shipped)), now)
    if reason is None:
        gets = "batch jobs, one for each card," if configured.pilot.direct else "pilots"
        return Answer(about, "ready", f"nothing is in its way: it gets {gets} when there is work that fits it", tuple(evidence))
    return Answer(about, "limited", reason.sentence.replace(about, "it", 1), tuple(evidence), reason.mend)


def _pilot(db: Any, one: PilotView, now: float) -> Answer:
    about, job = f"pilot {one.pilot}", f"job {one.job} at site {one.site}" if one.job else f"no job is known at site {one.site}"
    evidence = [f"{job}, submitted {output.ago(one.made, now)}"]
    if one.word:
        evidence.append(f"the batch system {SAYS.get(one.word, f'says: {one.word}')}" + (f" ({one.said})" if one.said else ""))
    told = views.agents(db, one.pilot)
    if told:
        evidence.append("agents: " + ", ".join(f"{n} {state}" for state, n in told.items()))
    if one.stopping:
        evidence.append("its end was ordered" + (f": {one.reason}" if one.reason else ""))
    if one.never and one.ended is None:
        said = one.never.replace("site.NAME", f"site.{one.site}")
        key = re.search(r"site\.[^ ]+\.pilot\.[a-z_]+", said)
        return Answer(about, one.state, f"it waits for what never comes: {said}", tuple(evidence), f"icp config set {key[0]} VALUE" if key else "")
    if one.state in ("submitting", "pending") and one.word == "ended":
        return Answer(about, one.state, "its batch job ended before it began: that is believed at the second look", tuple(evidence))
    if one.state == "submitting":
        return Answer(about, one.state, one.reason or "its submission was not answered yet", tuple(evidence))
    if one.state == "pending":
        return Answer(about, one.state, "it waits in the queue" + (f": {one.said}" if one.said else ""), tuple(evidence))
    if one.ended is not None:
        look = f"icp site check {shlex.quote(one.site)}" if one.state in ("failed", "lost") else ""
        return Answer(about, one.state, one.reason or f"{ENDINGS[one.state]} {output.ago(one.ended, now)}", tuple(evidence), look)
    if one.state == "planned":
        return Answer(about, one.state, "it is submitted with the next tick that the site answers", tuple(evidence))
    if not one.agents:
        sentence = "its agents have ended, and its batch job has not yet" if told else "it runs, and no agent of it was seen yet"
        return Answer(about, one.state, sentence, tuple(evidence))
    runs = "it lets what runs there end, and takes nothing more" if one.state == "draining" else "it runs"
    return Answer(about, one.state, f"{runs}, with {plural(one.agents, 'agent')}", tuple(evidence))
