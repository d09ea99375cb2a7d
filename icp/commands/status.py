"""`icp status`: datasets and sites at a glance, from kept counts (hides how they are laid out)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson, Category, Quiet, SiteName, choose, open_here, plural
from icp.commands.complete import dataset_names
from icp.errors import NotFound
from icp.model.exchange import refusal
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.ledger.db import Ledger
    from icp.ledger.views import DatasetView, EngineView, SiteView

__all__ = ["STALE", "STATES", "dataset_bar", "engine_line", "needs_engine", "pid_lives", "read", "site_line", "status"]

STATES = ("processing", "suspended", "errors", "complete", "cancelled")
TROUBLES = 5
"""Datasets, the newest, of which is said why they do not go on."""
ENDED = 20
"""Datasets that ended, shown without --all."""
STALE = 900.0
"""Seconds since the last tick after which nobody believes that an engine on another host still runs."""
COLOURS = {"processing": "cyan", "suspended": "yellow", "errors": "red", "complete": "green", "cancelled": "dim"}


def status(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="[DATASET]", help="Only this one: name, number, or a unique beginning.", show_default=False, autocompletion=dataset_names),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="A dashboard on the whole screen, until q or Ctrl-C; in a pipe a line for each change.")] = False,
    until_done: Annotated[bool, typer.Option("--until-done", help="With --watch: end when nothing is left to do.")] = False,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help=f"Only datasets in this state: {', '.join(STATES)}.", show_default=False)
    ] = None,
    site: SiteName = None,
    category: Category = None,
    plot: Annotated[bool, typer.Option("--plot", help="Completion and cpus in use over time, as plots.")] = False,
    every: Annotated[bool, typer.Option("--all", help=f"All datasets that ended, not only the last {ENDED}.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show datasets, sites and the engine; of one dataset its tasks, sites, rate, time to go and cost.

    Costs the same on a ledger of a thousand tasks and of twenty million.

    Examples:

      icp status

      icp status muons --plot

      icp status --watch --category simulation

      icp status --site nsa

      icp status --state errors --quiet
    """
    choose(state, STATES, "--state")
    ledger = open_here()
    if watch:
        from icp.commands.dashboard import watch as dashboard

        dashboard(ledger, dataset=dataset, category=category, site=site, state=state, until_done=until_done)
        return
    now = time.time()
    datasets, sites, engine = read(ledger, dataset=dataset, state=state, site=site, category=category, every=every)
    if quiet and not as_json:
        for one in datasets:
            output.say(clean(one.name))
        return
    more = _more(ledger, datasets[0].number if dataset is not None and datasets else None, site, plot, now)
    if as_json:
        output.print_json({"engine": engine, "datasets": datasets, "sites": sites, **more})
        return
    output.say(engine_line(engine, needs_engine(datasets), now))
    output.say()
    if "story" in more:
        from icp.commands.story import whole

        for text in whole(more["story"]):
            output.say(text)
    elif datasets:
        _table(datasets, now)
    else:
        output.say("no dataset" + (" like that" if state or site or category else " yet: `icp submit steering.toml`"))
    if sites and "site" not in more:
        output.say()
        for one_site in sites:
            for text in output.folded(site_line(one_site)):
                output.say(text)
    if "site" in more:
        from icp.commands.site.show import story

        output.say()
        output.say(paint(f"site {clean(more['site'].view.name)}", "bold"))
        story(more["site"], more["site"].view.name)
    if "course" in more:
        from icp.commands.plots import course

        output.say()
        for text in course(more["course"], datasets[0].tasks if "story" in more else None):
            output.say(text)


def _more(ledger: Ledger, dataset: int | None, site: str | None, plot: bool, now: float) -> dict[str, Any]:
    """What is shown of one dataset, of one site, and for plots."""
    more: dict[str, Any] = {}
    if dataset is None and site is None and not plot:
        return more
    from icp.ledger import views, views_sites, views_work

    with ledger.read() as db:
        if dataset is not None:
            from icp.commands.story import read as read_story

            more["story"] = read_story(db, views.one_dataset(db, dataset), now)
        elif site is not None:
            found = views_sites.site_story(db, site)
            if found is None:
                raise NotFound(f"the ledger has met no site {site!r}", "`icp site list` lists them")
            more["site"] = found
        if plot:
            more["course"] = views_work.course(db, dataset=dataset, site=site, now=now)
    return more


def read(
    ledger: Ledger, *, dataset: str | None = None, state: str | None = None, site: str | None = None, category: str | None = None, every: bool = False
) -> tuple[list[DatasetView], list[SiteView], EngineView]:
    """One consistent view."""
    from icp.ledger import views

    with ledger.read() as db:
        if dataset is not None:
            found = [views.one_dataset(db, views.find_dataset(db, dataset))]
        else:
            found = views.datasets(db, category=category, site=site, ended=None if every or state else ENDED)
        found = [one for one in found if state is None or one.state == state]
        sites = [one for one in views.sites(db) if site is None or one.name == site]
        return found, sites, views.engine(db)


def needs_engine(datasets: Iterable[DatasetView]) -> bool:
    """Whether something of these moves only while an engine ticks."""
    return any(one.state == "processing" or one.processing or one.queued or one.coming for one in datasets)


def engine_line(engine: EngineView, needed: bool, now: float) -> str:
    """Who ticks, and since when not; red when somebody should and nobody does, and calm where nothing of what is shown needs it."""
    if engine.last_tick is None:
        return paint("no engine: icp run", "red") if needed else paint("no engine ran yet, and nothing here needs one", "dim")
    age, ticked = now - engine.last_tick, f"last tick {output.ago(engine.last_tick, now)}"
    host = clean(engine.host or "?")
    if engine.by is not None:
        if age < STALE:
            return f"engine: {ticked} ({engine.by} on {host})"
        # what is called every few minutes and is not, is worth a word in any case
        return paint(f"no tick for {output.duration(age)} ({engine.by} on {host}): icp cron show", "red" if needed else "")
    where = f"pid {engine.pid} on {host}"
    here = engine.host == os.uname().nodename
    if engine.pid is not None and (pid_lives(engine.pid) if here else age < STALE):
        return paint(f"engine: {ticked} ({where})", "yellow" if age > STALE and needed else "")
    if not needed:
        return paint(f"no engine runs, and nothing here needs one ({ticked})", "dim")
    if engine.pid is None:
        return paint(f"no engine ({ticked}): icp run", "red")
    # cron's engines live for one tick each
    young = here and age < STALE
    return paint(f"no engine{' now' if young else ''} ({ticked}, {where}, which has ended): icp run", "yellow" if young else "red")


def pid_lives(pid: int | None) -> bool:
    """Whether this process of this host is there."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def jobs_so_far(one: DatasetView) -> str:
    """How many jobs; ``12+`` where more come as another dataset makes what they are made from."""
    return output.number(one.jobs) + ("+" if one.follows is not None else "")


def dataset_bar(one: DatasetView, cells: int) -> str:
    """ok, running, queued, failed, held, in shares of all tasks."""
    parts = [
        (one.ok, "█", "green"),
        (one.processing, "▓", "cyan"),
        (one.queued, "▒", "blue"),
        (one.failed, "✗", "red"),
        (one.suspended + one.cancelled, "-", "dim"),
    ]
    return output.bar(parts, one.tasks, cells)


def _table(datasets: list[DatasetView], now: float) -> None:
    heads = [">#", "name", "state", ">jobs", "tasks", ">ok", ">run", ">queued", ">wait", ">failed", ">age"]
    rows = []
    for one in datasets:
        number = output.number
        rows.append([
            str(one.number), clean(one.name), paint(one.state, COLOURS[one.state]), jobs_so_far(one), dataset_bar(one, 8), number(one.ok),
            number(one.processing), number(one.queued), number(one.waiting + one.idle + one.unreleased),
            paint(number(one.failed), "red" if one.failed else ""), output.duration(now - one.submitted),
        ])  # fmt: skip
    for line in output.table(heads, rows, tight=True, middle="name"):
        output.say(line)
    troubles = []
    for one in datasets:
        if one.reason and one.state == "suspended":
            troubles.append(f"{clean(one.name)}: {clean(one.reason)}; `icp why {clean(one.name)}`")
        elif one.state == "errors":
            troubles.append(f"{clean(one.name)}: {plural(one.failed, 'task')} failed; `icp why {clean(one.name)}`")
    if troubles:
        output.say()
    for text in troubles[-TROUBLES:]:
        for line in output.folded(text):
            output.say(line)
    if len(troubles) > TROUBLES:
        output.say(f"and {len(troubles) - TROUBLES} more: `icp status --state errors`, `icp status --state suspended`")


def site_line(site: SiteView) -> str:
    """One line of a site: what is the matter with it if anything is, pilots by state, busy slots."""
    said = []
    if site.login is not None:
        said.append(paint(f"needs login since {output.clock(site.login)}", "red") + f": `icp login {clean(site.name)}`")
    elif site.refuses is not None:
        said.append(paint(clean(refusal(site.refuses)), "red") + "; `icp ledger adopt`")
    elif not site.reachable:
        since = f"does not answer since {output.clock(site.unreachable_since)}"
        said.append(paint(since + (f" ({clean(site.reason)})" if site.reason else ""), "red"))
    elif site.answered is None:
        said.append("not asked yet")
    elif site.reason:
        said.append(paint(f"its batch system does not answer ({clean(site.reason)})", "red"))
    if site.paused is not None:
        # what the engine stopped waits for a person; what a person stopped does not
        by_engine = "pilot" in site.paused or "batch job" in site.paused
        said.append(paint(f"{'drained' if site.draining else 'paused'}: {clean(site.paused)}", "red" if by_engine else "yellow"))
        said.append(f"`icp site resume {clean(site.name)}`")
    pilots = ", ".join(
        f"{n} {state}" + (f" ({clean(site.waits)})" if state == "pending" and site.waits else "") for state, n in site.pilots.items()
    )
    said += [f"{'batch jobs' if site.direct else 'pilots'} {pilots or 'none'}", f"{site.busy} of {plural(site.slots, 'slot')} busy"]
    if site.queued:
        said.append(f"{output.number(site.queued)} queued there")
    return f"site {clean(site.name)}: " + "; ".join(said)
