"""The story of one dataset or one site, from kept counts: what `icp status DATASET`, `icp show DATASET` and the dashboard print (hides its layout)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icp import output
from icp.commands.arguments import job_text, plural
from icp.commands.status import COLOURS, dataset_bar
from icp.output import clean, paint

if TYPE_CHECKING:
    import sqlite3

    from icp.ledger.views import DatasetView, ErrorView
    from icp.ledger.views_jobs import DefinitionView
    from icp.ledger.views_results import StatView
    from icp.ledger.views_work import ProgressView, WorkView

__all__ = ["Story", "definitions", "errors", "facts", "pace", "read", "shares", "to_go", "whole"]

_WORDS = ("ok", "processing", "queued", "waiting", "idle", "failed", "suspended", "cancelled")


@dataclass(frozen=True)
class Story:
    """What is kept of one dataset."""

    dataset: DatasetView
    progress: ProgressView
    definitions: list[DefinitionView]
    work: list[WorkView]
    statistics: list[StatView]
    errors: list[ErrorView]


def read(db: sqlite3.Connection, view: DatasetView, now: float) -> Story:
    """In the caller's transaction."""
    from icp.ledger import views, views_jobs, views_results, views_work
    from icp.ledger.definitions import Definitions

    graph = Definitions(db).graph(view.number)
    return Story(
        view, views_work.progress(db, view, now), views_jobs.definition_states(db, graph), views_work.work(db, view.number),
        views_results.statistics(db, graph), views.last_errors(db, [view.number], 5),
    )  # fmt: skip


def facts(view: DatasetView, found: ProgressView) -> list[str]:
    """Its name, how far it is, how fast, and what it cost."""
    share = 100 * view.ok // view.tasks if view.tasks else 0
    head = f"{view.number} {paint(clean(view.name), 'bold')} {paint(view.state, COLOURS[view.state])}"
    counts = [(view.processing, "running", ""), (view.queued, "queued", ""), (view.failed, "failed", "red"), (view.suspended, "suspended", "yellow"),
              (view.cancelled, "cancelled", "")]  # fmt: skip
    said = "".join(", " + paint(f"{output.number(n)} {word}", colour) for n, word, colour in counts if n)
    ok = f"{output.number(view.ok)} of {plural(view.tasks, 'task')} ok ({share}%)"
    room = max(10, min(40, output.width() - 1 - len(output.strip(ok + said))))
    lines = [head + (f": {clean(view.reason)}" if view.reason else ""), f"{dataset_bar(view, room)} {ok}{said}"]
    if view.follows is not None:
        lines.append(f"  {'follows':<10} {clean(view.follows)}: more jobs come with its outputs")
    if found.rate or view.state in ("processing", "suspended"):
        lines.append(f"  {'rate':<10} {pace(found)}")
    if found.to_go is not None:
        lines.append(f"  {'time to go':<10} {to_go(found)}")
    wasted = "" if found.efficiency is None else f", {100 * found.efficiency:.0f}% of them in attempts that count"
    lines.append(f"  {'core-hours':<10} {found.core_hours:,.3g} so far{wasted}")
    coming = f", {plural(view.coming, 'file')} still to come" if view.coming else ""
    lines.append(f"  {'disk':<10} {output.plain_size(found.bytes)} of outputs{coming}")
    return lines


def pace(found: ProgressView, *, spread: bool = True) -> str:
    """``12/min ± 3``."""
    if not found.rate:
        return "not known yet"
    for seconds, unit in ((60, "min"), (3600, "h"), (86400, "d")):
        if found.rate * seconds >= 2 or unit == "d":
            break
    deviation = f" ± {_short(found.deviation * seconds)}" if spread and found.deviation else ""
    return f"{_short(found.rate * seconds)}{deviation} tasks/{unit}"


def _short(n: float) -> str:
    return output.number(n) if n >= 10 else f"{n:.2g}"


def to_go(found: ProgressView) -> str:
    """``3 h (2 h to 5 h)``."""
    if found.to_go is None or found.soonest is None:
        return "not known yet"
    if found.latest is None:
        return f"{output.duration(found.to_go)} (at least {output.duration(found.soonest)})"
    ends = output.duration(found.soonest), output.duration(found.latest)
    return output.duration(found.to_go) + ("" if ends[0] == ends[1] else f" ({ends[0]} to {ends[1]})")


def definitions(found: list[DefinitionView]) -> list[str]:
    """Task definitions x states."""
    used = [word for word in _WORDS if any(word in one.states for one in found)]
    rows = []
    for one in found:
        counts = [output.number(one.states.get(word, 0)) for word in used]
        median = "-" if one.median is None else output.duration(one.median)
        memory = output.plain_size(one.memory) if one.memory else "-"
        rows.append([clean(one.task) + (" (final)" if one.final else ""), clean(", ".join(one.after)) or "-", *counts, median, memory])
    short = {"processing": "run", "suspended": "susp.", "cancelled": "canc."}
    return output.table(["task", "after", *(f">{short.get(word, word)}" for word in used), ">median", ">memory"], rows)


def shares(found: list[WorkView], at_sites: list[DefinitionView]) -> list[str]:
    """Who does how much of the work, as bars; nothing where nobody did anything yet."""
    sites: dict[str, list[float]] = {}
    for row in found:
        sums = sites.setdefault(row.site, [0, 0, 0.0, 0.0, 0])
        for at, value in enumerate((row.ok, row.others, row.good, row.wasted)):
            sums[at] += value
    live: dict[str, int] = {}
    for one in at_sites:
        for site, states in one.sites.items():
            live[site] = live.get(site, 0) + states.get("processing", 0) + states.get("queued", 0)
    names = [*sorted(sites, key=lambda name: -sites[name][2]), *sorted({name for name, n in live.items() if n} - set(sites))]
    total = sum(sums[2] for sums in sites.values())
    by_time = total > 0
    whole = total if by_time else sum(sums[0] for sums in sites.values())
    rows = []
    for name in names:
        ok, others, good, wasted = sites.get(name, [0, 0, 0.0, 0.0])[:4]
        part = (good if by_time else ok) / whole if whole else 0.0
        efficiency = f"{100 * good / (good + wasted):.0f}%" if good + wasted > 0 else "-"
        rows.append([
            clean(name), f"{output.bar([(round(1000 * part), '█', 'green')], 1000, 16)} {100 * part:>3.0f}%", output.number(ok),
            output.number(live.get(name, 0)), output.number(others), f"{(good + wasted) / 3600:,.3g}", efficiency,
        ])  # fmt: skip
    return output.table(["site", "share of work", ">ok", ">there now", ">not ok", ">core-hours", ">efficiency"], rows) if rows else []


def errors(found: list[ErrorView], lines: int = 5) -> list[str]:
    """The last failures, each kind of them once, with the end of its text."""
    said = []
    for error in found:
        exit_ = "" if error.exit is None else f" exit {error.exit}"
        many = f"{plural(error.n, 'error')} like this: " if error.n > 1 else "error: "
        head = f"{many}{error.kind}{exit_} in {clean(error.task)}, job {job_text(error.job)} at {clean(error.site)}"
        said += ["", paint(head, "red")]
        said += [f"    | {line}" for line in output.clean_lines(error.text).rstrip("\n").split("\n")[-lines:]]
    return said


def whole(story: Story) -> list[str]:
    """All of it, a paragraph each."""
    from icp.commands.stats import lines

    said = [*facts(story.dataset, story.progress), "", *definitions(story.definitions)]
    for part in (shares(story.work, story.definitions), lines(story.statistics) if story.statistics else []):
        said += ["", *part] if part else []
    return said + errors(story.errors)
