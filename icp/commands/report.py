"""`icp report`: one dataset as one self-contained page with pictures (hides HTML)."""

from __future__ import annotations

import os
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson, DatasetName, job_text, open_here, plural, the_dataset
from icp.output import clean, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icp.commands.story import Story
    from icp.ledger.views_failures import FailureView

__all__ = ["page", "report"]

HISTOGRAMS = 12
LINES = 12
"""Lines of an error's text that are shown."""


def report(
    dataset: DatasetName,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it (NAME.html in this directory).", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page about a dataset: the graph with counts, its course, sites, efficiency, statistics, failures.

    Needs matplotlib: pip install 'icp-pool[plots]'. With --json what the page is made of is printed instead.

    Examples:

      icp report muons

      icp report muons -o muons.html
    """
    from icp.commands import pictures, story
    from icp.ledger import views, views_failures, views_stats, views_work
    from icp.ledger.definitions import Definitions

    if not as_json:
        pictures.needed()
    now = time.time()
    ledger = open_here()
    with ledger.read() as db:
        view = views.one_dataset(db, the_dataset(ledger, dataset))
        told = story.read(db, view, now)
        graph = Definitions(db).graph(view.number)
        stats = views_stats.stats(db, graph)
        course = views_work.course(db, dataset=view.number, now=now, stretches=240)
        failures = views_failures.failures(db, view.number)
        shown = [row for row in stats if row.max > row.min and row.n > 1]
        # what modules reported says more than what was measured
        shown = sorted(shown, key=lambda row: row.name in views_stats.MEASURED)[:HISTOGRAMS]
        bins = [(row, views_stats.histogram(db, graph, row.name, row.min, row.max, task=graph.by_name(row.task or ""), bins=30)) for row in shown]
    if as_json:
        output.print_json({"story": told, "stats": stats, "course": course, "failures": failures})
        return
    drawn = {"graph": pictures.graph(told.definitions, view.jobs)}
    if len(course) > 1:
        drawn["course"] = pictures.course(course, view.tasks)
    by_site, by_task = _sums(told, "site"), _sums(told, "task")
    if any(good + bad for _, good, bad in by_site):
        drawn["efficiency"] = pictures.efficiency(by_site, "by site") + pictures.efficiency(by_task, "by task")
    if bins:
        drawn["histograms"] = pictures.histograms(bins)
    path = out or Path(f"{view.name}.html".replace("/", "_"))
    text = page(told, drawn, stats, failures, now)
    part = path.with_name(path.name + f".part{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    output.say(f"{path}: {output.plain_size(len(text.encode()))}")


def _sums(told: Story, by: str) -> list[tuple[str, float, float]]:
    sums: dict[str, list[float]] = {}
    for row in told.work:
        one = sums.setdefault(getattr(row, by), [0.0, 0.0])
        one[0] += row.good / 3600
        one[1] += row.wasted / 3600
    return [(name, good, bad) for name, (good, bad) in sums.items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already; ``>``: to the right."""
    right = [head.startswith(">") for head in heads]
    top = "".join(f"<th{' class=r' if right[at] else ''}>{escape(head.lstrip('>'))}</th>" for at, head in enumerate(heads))
    body = "".join("<tr>" + "".join(f"<td{' class=r' if right[at] else ''}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _text(value: object) -> str:
    return escape(clean(value))


def page(told: Story, drawn: dict[str, str], stats: Sequence[Any], failures: Sequence[FailureView], now: float) -> str:
    """The whole file."""
    view = told.dataset
    parts = [_head(told, now), f"<h2>Tasks</h2><div class=wide>{drawn['graph']}</div>", _definitions(told)]
    if "course" in drawn:
        parts.append(f"<h2>Course</h2><div class=picture>{drawn['course']}</div>")
    parts.append(_sites(told))
    if "efficiency" in drawn:
        parts.append("<h2>Efficiency</h2><p>Core-hours held by attempts that count (green) and by all others (red).</p>")
        parts.append(f"<div class=pair>{drawn['efficiency']}</div>")
        parts.append(_efficiencies(told))
    if stats:
        rows = [[_text(row.task), _text(row.name), number(row.n), *(f"{value:.6g}" for value in (row.sum, row.mean, row.deviation, row.min, row.max))]
                for row in stats]  # fmt: skip
        parts.append("<h2>Statistics</h2>" + (f"<div class=picture>{drawn['histograms']}</div>" if "histograms" in drawn else ""))
        parts.append(_table(["task", "statistic", ">n", ">sum", ">mean", ">deviation", ">min", ">max"], rows))
    parts.append(_failures(failures))
    parts.append(f"<footer>icp report of {_text(view.name)}, {output.clock(now)}</footer>")
    top = "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    return "\n".join([f"{top}<title>{_text(view.name)}</title><style>{_STYLE}</style><body>", *parts, "</body></html>", ""])


def _head(told: Story, now: float) -> str:
    from icp.commands import story
    from icp.commands.pictures import STATES

    view, found = told.dataset, told.progress
    counts = {"ok": view.ok, "processing": view.processing, "queued": view.queued, "failed": view.failed, "suspended": view.suspended,
              "cancelled": view.cancelled}  # fmt: skip
    bar = "".join(f"<i style='width:{100 * n / max(1, view.tasks):.3f}%;background:{STATES[word]}'></i>" for word, n in counts.items() if n)
    waiting = view.waiting + view.idle + view.unreleased
    legend = " ".join(f"<span><b style='background:{STATES[word]}'></b>{number(n)} {word}</span>" for word, n in counts.items() if n)
    legend += f" <span><b class=waits></b>{number(waiting)} waiting</span>" if waiting else ""
    share = 100 * view.ok // view.tasks if view.tasks else 0
    facts = [("tasks ok", f"{number(view.ok)} of {number(view.tasks)} ({share}%)"), ("jobs", f"{view.jobs:,}"), ("rate", story.pace(found))]
    if found.to_go is not None:
        facts.append(("time to go", story.to_go(found)))
    facts += [("core-hours", f"{found.core_hours:,.3g}"), ("disk", f"{output.plain_size(found.bytes)} of outputs")]
    if found.efficiency is not None:
        facts.append(("efficiency", f"{100 * found.efficiency:.1f}%"))
    facts.append(("submitted", f"{output.clock(view.submitted)} ({output.ago(view.submitted, now)})"))
    if view.finished is not None:
        facts.append(("finished", output.clock(view.finished)))
    said = "".join(f"<div><dt>{word}</dt><dd>{_text(text)}</dd></div>" for word, text in facts)
    why = f"<p>{_text(view.reason)}</p>" if view.reason else ""
    small = " · ".join([str(view.number), view.state, *([_text(view.category)] if view.category else [])])
    return f"<h1>{_text(view.name)} <small>{small}</small></h1>{why}<div class=bar>{bar}</div><p class=legend>{legend}</p><dl>{said}</dl>"


def _definitions(told: Story) -> str:
    words = [word for word in ("ok", "processing", "queued", "waiting", "idle", "failed", "suspended", "cancelled")
             if any(word in one.states for one in told.definitions)]  # fmt: skip
    rows = []
    for one in told.definitions:
        counts = [number(one.states.get(word, 0)) for word in words]
        median = "-" if one.median is None else output.duration(one.median)
        final = " <small>final</small>" if one.final else ""
        rows.append([_text(one.task) + final, _text(", ".join(one.after)) or "-", *counts, median, output.plain_size(one.memory) if one.memory else "-"])
    return _table(["task", "after", *(f">{word}" for word in words), ">median time", ">most memory"], rows)


def _sites(told: Story) -> str:
    total = sum(row.good for row in told.work)
    rows = []
    for name, good, bad in sorted(_sums(told, "site"), key=lambda row: -row[1]):
        here = [row for row in told.work if row.site == name]
        share = 100 * good * 3600 / total if total else 0.0
        rows.append([_text(name), f"<div class=share><i style='width:{share:.2f}%'></i></div>", f"{share:.1f}%", number(sum(row.ok for row in here)),
                     number(sum(row.others for row in here)), f"{good + bad:,.3g}"])  # fmt: skip
    if not rows:
        return "<h2>Sites</h2><p>Nothing has ended yet.</p>"
    return "<h2>Sites</h2>" + _table(["site", "share of work", ">", ">ok", ">not ok", ">core-hours"], rows)


def _efficiencies(told: Story) -> str:
    sites = list(dict.fromkeys(row.site for row in told.work))
    cells = {(row.task, row.site): row for row in told.work}
    rows = []
    for one in told.definitions:
        row = [_text(one.task)]
        for site in sites:
            found = cells.get((one.task, site))
            held = found.good + found.wasted if found else 0.0
            row.append(f"{100 * found.good / held:.0f}%" if found and held else "-")
        rows.append(row)
    return _table(["good over total time", *(f">{site}" for site in sites)], rows)


def _failures(failures: Sequence[FailureView]) -> str:
    if not failures:
        return "<h2>Failures</h2><p>None.</p>"
    said = ["<h2>Failures</h2><p>The same last line, once; also those of tasks that are ok by now.</p>"]
    for one in failures:
        exit_ = "" if one.exit is None else f", exit {one.exit}"
        sites = ", ".join(f"{_text(site)} {n:,}" for site, n in one.sites.items())
        hosts = ", ".join(f"{_text(host)} {n:,}" for host, n in list(one.hosts.items())[:5]) + (", …" if len(one.hosts) > 5 else "")
        tail = "\n".join(output.clean_lines(one.text).rstrip("\n").split("\n")[-LINES:])
        said.append(
            f"<details open><summary><b>{one.n:,} &times;</b> {_text(one.kind)}{exit_} in {_text(one.task)}, {plural(one.jobs, 'job')}</summary>"
            f"<p>{sites}; on {hosts}; from {output.clock(one.first)} to {output.clock(one.last)}; the newest in job {job_text(one.job)}</p>"
            f"<pre>{escape(tail)}</pre></details>"
        )
    return "".join(said)


_STYLE = """
:root{color-scheme:light dark;--text:#1b1f24;--page:#fff;--line:#d6d9de;--soft:#f4f5f7}
@media(prefers-color-scheme:dark){:root{--text:#e4e7eb;--page:#14171b;--line:#3a3f47;--soft:#1e2228}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .6rem}h1 small{font-weight:400;font-size:1rem;opacity:.75}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
.bar{display:flex;height:14px;border-radius:4px;overflow:hidden;background:color-mix(in srgb,var(--text) 14%,transparent)}.bar i{display:block}
.legend span{margin-right:1rem;white-space:nowrap}.legend b{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.4em}
.waits{background:color-mix(in srgb,var(--text) 25%,transparent)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.6rem 1.4rem;margin:1rem 0}dt{opacity:.7;font-size:.82rem}dd{margin:0}
table{border-collapse:collapse;font-size:.9rem;min-width:60%}th,td{padding:.28rem .7rem;border-bottom:1px solid var(--line);text-align:left}
th{font-weight:600}.r{text-align:right;font-variant-numeric:tabular-nums}.wide{overflow-x:auto;margin:.4rem 0}
.share{width:12rem;height:10px;border-radius:3px;background:color-mix(in srgb,var(--text) 12%,transparent)}
.share i{display:block;height:100%;border-radius:3px;background:#2f9e5f}
svg{width:100%;height:auto;font-family:system-ui,sans-serif}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
@media(max-width:44rem){.pair{grid-template-columns:1fr}}
details{margin:.7rem 0;border:1px solid var(--line);border-radius:6px;padding:.5rem .8rem}summary{cursor:pointer}details p{margin:.3rem 0;font-size:.88rem}
pre{background:var(--soft);padding:.6rem .8rem;border-radius:4px;overflow-x:auto;font-size:.84rem;margin:.4rem 0}
footer{margin:3rem 0 1rem;opacity:.65;font-size:.85rem}
"""
