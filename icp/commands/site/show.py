"""`icp site list | show`: what is configured, what the ledger knows, what the last check found (hides how it is laid out)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from icp import output
from icp.commands.arguments import AsJson, Quiet, TheSite, plural
from icp.model.exchange import refusal
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.config import Config, Site
    from icp.ledger.db import Ledger
    from icp.ledger.views_sites import SiteStory

__all__ = ["list_", "show", "story"]


def list_(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the sites that are configured, and how they stand.

    Examples:

      icp site list

      icp site list --quiet
    """
    from icp.config import load
    from icp.ledger import views

    config = load()
    ledger = _ledger(config)
    known = {one.name: one for one in views.sites(ledger.db)} if ledger else {}
    now = time.time()
    rows: list[dict[str, Any]] = [
        {"name": name, "host": site.host, "scheduler": site.scheduler, "state": _state(known.get(name)), "ledger": known.get(name)}
        for name, site in config.sites.items()
    ]
    rows += [{"name": name, "host": None, "scheduler": None, "state": "not configured", "ledger": view}
             for name, view in known.items() if name not in config.sites]  # fmt: skip
    output.show(
        rows,
        {
            "site": lambda one: clean(one["name"]),
            "host": lambda one: clean(one["host"] or ("this machine" if one["scheduler"] else "-")),
            "batch": lambda one: one["scheduler"] or "-",
            "state": lambda one: paint(one["state"], "" if one["state"] in ("well", "not asked yet") else "yellow"),
            ">pilots": lambda one: str(sum(one["ledger"].pilots.values())) if one["ledger"] else "0",
            ">busy": lambda one: f"{one['ledger'].busy}/{one['ledger'].slots}" if one["ledger"] else "0/0",
            ">queued": lambda one: output.number(one["ledger"].queued) if one["ledger"] else "0",
            "answered": lambda one: output.ago(one["ledger"].answered, now) if one["ledger"] else "never",
        },
        as_json=as_json,
        quiet=(lambda one: str(one["name"])) if quiet else None,
        empty="no site",
    )


def _ledger(config: Config) -> Ledger | None:
    from icp.errors import NotFound
    from icp.ledger.db import open_ledger

    try:
        return open_ledger(config.ledger)
    except NotFound:
        return None


def _state(view: Any) -> str:
    if view is None:
        return "not asked yet"
    if view.paused is not None:
        return "draining" if view.draining else "paused"
    if view.login is not None:
        return "needs login"
    if not view.reachable:
        return "does not answer"
    return "well" if view.answered is not None else "not asked yet"


def show(site: TheSite, as_json: AsJson = False) -> None:
    """Show a site: its configuration, whether it answers, its pilots, and the last check. A check that was left alone is looked after.

    Example:

      icp site show nsa
    """
    from icp.config import load, values
    from icp.engine.canary import last_check, site_of
    from icp.errors import NotFound
    from icp.ledger.views_sites import site_story

    config = load()
    ledger = _ledger(config)
    known = site_story(ledger.db, site) if ledger else None
    configured: Site | None = config.sites.get(site)
    if configured is None and known is None:
        site_of(config, site)
        raise NotFound(f"there is no site {site!r}")
    checked = last_check(config, site)
    trouble = None
    if configured is not None and checked is not None and checked["state"] == "running":
        checked, trouble = _looked(config, configured, checked)
    prefix = f"site.{site}."
    keys = {path[len(prefix):]: value for path, value in values(config.places).items() if path.startswith(prefix)}
    if as_json:
        output.print_json({"site": site, "configured": keys if configured else None, "state": _state(known.view if known else None),
                           "ledger": known, "check": checked})  # fmt: skip
        return
    where = "not configured" if configured is None else f"ssh {configured.host}" if configured.host else "this machine"
    output.say(paint(f"site {clean(site)}", "bold") + f": {where}" + (f", {configured.scheduler}" if configured and configured.scheduler != "none" else ""))
    for path, value in keys.items():
        output.say(f"  {clean(path)} = {clean(value if not isinstance(value, tuple) else list(value))}")
    output.say()
    story(known, site)
    _check(checked, site, trouble)


def _looked(config: Config, site: Site, known: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    from icp.engine.canary import Check
    from icp.errors import IcpError

    check = Check(config, site, lambda step: None, known)
    try:
        check.look()
    except IcpError as error:
        return check.record, error.message
    return check.record, None


def story(known: SiteStory | None, name: str) -> None:
    """What the ledger knows of a site."""
    now = time.time()
    if known is None:
        output.say("the ledger has not met it yet")
        return
    view = known.view
    if view.paused is not None:
        output.say(paint(f"{'draining' if view.draining else 'paused'}: {clean(view.paused)}; `icp site resume {clean(name)}`", "yellow"))
    login = f" ({clean(known.login)})" if known.login else ""
    if view.login is not None:
        output.say(paint(f"needs login since {output.clock(view.login)}: `icp login {clean(name)}`; last answer {output.ago(view.answered, now)}", "red"))
        output.say(f"  {clean(view.reason or '')}")
    elif view.refuses is not None:
        output.say(paint(f"{clean(refusal(view.refuses))}; `icp ledger adopt`; last answer {output.ago(view.answered, now)}", "red"))
    elif not view.reachable:
        why = f": {clean(view.reason)}" if view.reason else ""
        output.say(paint(f"does not answer since {output.clock(view.unreachable_since)}{why}; last answer {output.ago(view.answered, now)}", "red"))
    else:
        output.say(f"last answer {output.ago(view.answered, now)}{login}")
        if view.reason:
            output.say(paint(f"its batch system does not answer: {clean(view.reason)}; its pilots are shown as they were last seen", "red"))
    if known.hold > now:
        output.say(f"no new pilot for {output.duration(known.hold - now)}: {plural(known.young, 'pilot')} in a row ended before an agent started")
    counts = ", ".join(f"{n} {state}" for state, n in view.pilots.items()) or "none"
    output.say(f"pilots {counts}; {view.busy} of {plural(view.slots, 'cpu')} busy")
    output.say(f"{plural(view.processing, 'task')} claimed, {output.number(view.queued)} queued there, {output.number(known.ok)} done there")  # fmt: skip
    if known.core_hours is not None:
        silent = f"; it says nothing of {plural(known.unaccounted, 'pilot')} that ended" if known.unaccounted else ""
        output.say(f"{known.core_hours:.3g} core-hours used, as the site's own accounting says{silent}")
    for one in known.software:
        from icp.commands.show import software_text

        how = clean(software_text(one.had)) if one.had else paint(clean(one.why or ""), "red")
        output.say(f"software {clean(one.software)} on {clean(one.host or '?')}: {how}")
        for way, lacks in one.vain if one.had else ():
            output.say(f"  not {clean(way)}: {clean(lacks)}")
    if known.pilots:
        rows = [
            [one.pilot, one.state, clean(one.batch or "-"), clean(one.host or "-"), output.ago(one.made, now), clean(one.said or "")] for one in known.pilots
        ]
        for line in ["", *output.table(["pilot", "state", "batch", "host", ">made", "said"], rows)]:
            output.say(line)


def _check(checked: dict[str, Any] | None, name: str, trouble: str | None) -> None:
    output.say()
    if checked is None:
        output.say(f"never checked: `icp site check {clean(name)}`")
        return
    word = {"running": "is under way", "ok": "passed", "failed": "failed"}[checked["state"]]
    waits = f" ({clean(checked['word'])})" if checked["state"] == "running" and checked.get("word") else ""
    output.say(f"check of {output.clock(checked['begun'])} {word}{waits}")
    for one in checked["steps"]:
        output.say(step_line(one["name"], one["text"], one["ok"]))
    if checked["state"] == "failed":
        output.say(paint(f"  {clean(checked['why'])}", "red"))
        if checked.get("hint"):
            output.say(f"  hint: {clean(checked['hint'])}")
    if trouble:
        output.say(paint(f"  {clean(trouble)}", "yellow"))


def step_line(name: str, text: str, ok: bool | None) -> str:
    """One step of a check, as `site check` prints it too."""
    mark = paint("ok", "green") if ok else paint("no", "red") if ok is False else "--"
    return f"  {mark} {name:<10} {clean(text)}"
