"""The pictures of a report as SVG that takes the page's own colour of text (hides matplotlib, and the layout of a graph)."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from icp.errors import Refused

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from icp.ledger.views_jobs import DefinitionView
    from icp.ledger.views_results import StatView
    from icp.ledger.views_stats import BinView
    from icp.ledger.views_work import CourseView

__all__ = ["STATES", "course", "efficiency", "graph", "histograms", "needed"]

STATES = {"ok": "#2f9e5f", "processing": "#2b8fb5", "queued": "#6b7fd7", "failed": "#d64545", "suspended": "#c98a1b", "cancelled": "#8a8f98"}
"""Colours that are seen on white and on black; what is missing waits."""
_TEXT = "#010203"  # stands for the page's own colour of text until the picture is written


def needed() -> None:
    """Refused where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Refused("a report has pictures, and matplotlib is not installed", "pip install 'icp-pool[plots]'; `icp status NAME --plot` needs nothing")


def _figure(wide: float, high: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.patch.set_alpha(0)
        one.tick_params(colors=_TEXT, labelsize=8)
        for side, spine in one.spines.items():
            spine.set_color(_TEXT)
            spine.set_visible(side in ("left", "bottom"))
        one.grid(axis="y", color=_TEXT, alpha=0.15, linewidth=0.6)
        one.set_axisbelow(True)
    figure.patch.set_alpha(0)
    return figure, list(axes.flat)


def _svg(figure: Figure, name: str) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    said = text.getvalue()
    return said[said.index("<svg") :].replace(_TEXT, "currentColor").replace("<svg ", f'<svg role="img" aria-label="{escape(name)}" ', 1)


def course(found: Sequence[CourseView], tasks: int) -> str:
    """Completion, and cpus in use, over time."""
    from matplotlib import dates as typed

    dates: Any = typed  # its types are not written
    figure, (done, busy) = _figure(9, 4.6, 2, 1)
    # dates as matplotlib counts them, by this machine's clock
    edges = [datetime.fromtimestamp(one.at) for one in found] + [datetime.fromtimestamp(found[-1].at + found[-1].seconds)]  # noqa: DTZ006
    at: Any = dates.date2num(edges)
    done.fill_between(at, [0, *(one.ok for one in found)], color=STATES["ok"], alpha=0.35, linewidth=0)
    done.plot(at, [0, *(one.ok for one in found)], color=STATES["ok"], linewidth=1.6)
    done.axhline(tasks, color=_TEXT, linewidth=0.8, linestyle=":")
    done.set_ylabel("tasks ok", color=_TEXT, fontsize=9)
    busy.stairs([one.busy for one in found], at, fill=True, color=STATES["processing"], alpha=0.35)
    busy.stairs([one.busy for one in found], at, color=STATES["processing"], linewidth=1.6)
    busy.set_ylabel("cpus in use", color=_TEXT, fontsize=9)
    for one in (done, busy):
        one.set_ylim(bottom=0)
        one.set_xlim(at[0], at[-1])
        locator = dates.AutoDateLocator(minticks=3, maxticks=8)
        one.xaxis.set_major_locator(locator)
        one.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        one.xaxis.get_offset_text().set_color(_TEXT)
        one.xaxis.get_offset_text().set_fontsize(8)
    return _svg(figure, "completion and cpus in use over time")


def efficiency(rows: Sequence[tuple[str, float, float]], name: str) -> str:
    """(who, core-hours that count, core-hours that do not) as bars."""
    figure, (one,) = _figure(4.6, 0.9 + 0.34 * len(rows))
    names, good, bad = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    one.barh(names, good, color=STATES["ok"], height=0.62)
    one.barh(names, bad, left=good, color=STATES["failed"], height=0.62)
    most = max((a + b for a, b in zip(good, bad, strict=True)), default=0.0)
    for at, (a, b) in enumerate(zip(good, bad, strict=True)):
        said = f"{100 * a / (a + b):.0f}%" if a + b else ""
        one.annotate(said, (a + b, at), (4, 0), textcoords="offset points", va="center", fontsize=8, color=_TEXT)
    one.set_xlim(0, most * 1.15 or 1)
    one.invert_yaxis()
    one.grid(visible=False)
    one.set_xlabel("core-hours; % that count", color=_TEXT, fontsize=8)
    one.set_title(name, color=_TEXT, fontsize=9, loc="left")
    return _svg(figure, f"efficiency {name}")


def histograms(found: Sequence[tuple[StatView, Sequence[BinView]]], columns: int = 3) -> str:
    """Small pictures of how values spread."""
    rows = -(-len(found) // columns)
    figure, axes = _figure(9, 0.3 + 1.7 * rows, rows, columns)
    for one, (stat, bins) in zip(axes, found, strict=False):
        one.stairs([row.n for row in bins], [*(row.low for row in bins), bins[-1].high] if len(bins) > 1 else [stat.min - 0.5, stat.max + 0.5], fill=True,
                   color=STATES["processing"], alpha=0.75)  # fmt: skip
        of = f"{stat.task}: {stat.name}" if stat.task else stat.name
        one.set_title(of.replace("$", r"\$")[:40], color=_TEXT, fontsize=8, loc="left")
        one.tick_params(labelsize=7)
        one.locator_params(axis="x", nbins=5)
        one.xaxis.get_offset_text().set_color(_TEXT)
        one.xaxis.get_offset_text().set_fontsize(7)
    for one in axes[len(found) :]:
        one.set_axis_off()
    return _svg(figure, "histograms of statistics")


# -- the graph ----------------------------------------------------------------------------------------------------

_WIDE, _HIGH, _GAP, _ROW = 172, 62, 54, 20


def graph(found: Sequence[DefinitionView], jobs: int) -> str:
    """Tasks as boxes from left to right, each with its counts, and lines from what it waits for."""
    layer: dict[str, int] = {}
    for one in found:  # parents come first
        layer[one.task] = max((layer.get(parent, 0) + 1 for parent in one.after), default=0)
    columns: dict[int, list[DefinitionView]] = {}
    for one in found:
        columns.setdefault(layer[one.task], []).append(one)
    tallest = max(map(len, columns.values()))
    high = tallest * (_HIGH + _ROW) - _ROW + 8
    wide = len(columns) * (_WIDE + _GAP) - _GAP + 8
    place = {}
    for at, ones in columns.items():
        top = (high - len(ones) * (_HIGH + _ROW) + _ROW) / 2
        for row, one in enumerate(ones):
            place[one.task] = (4 + at * (_WIDE + _GAP), top + row * (_HIGH + _ROW))
    said = [f'<svg role="img" aria-label="tasks and what they wait for" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high:.0f}" '
            f'style="max-width:{wide}px" font-size="12">']  # fmt: skip
    for one in found:
        x, y = place[one.task]
        for parent in one.after:
            if parent in place:
                begin, height = place[parent][0] + _WIDE, place[parent][1] + _HIGH / 2
                bend = max(_GAP / 2, (x - begin) / 2)
                said.append(f'<path d="M{begin} {height:.1f}C{begin + bend} {height:.1f} {x - bend} {y + _HIGH / 2:.1f} {x} {y + _HIGH / 2:.1f}" '
                            'fill="none" stroke="currentColor" stroke-opacity=".45"/>')  # fmt: skip
    said += [_box(one, *place[one.task], jobs) for one in found]
    return "".join([*said, "</svg>"])


def _box(one: DefinitionView, x: float, y: float, jobs: int) -> str:
    dashes = ' stroke-dasharray="5 3"' if one.final else ""
    total = max(1, sum(one.states.values())) if one.final else max(1, jobs)
    ok = one.states.get("ok", 0)
    others = [f"{one.states[word]:,} {short}" for word, short in (("processing", "run"), ("queued", "queued"), ("failed", "failed")) if one.states.get(word)]
    name = one.task if len(one.task) <= 22 else one.task[:21] + "…"
    lines = [f'<g><title>{escape(one.task)}: {escape(", ".join(f"{n:,} {word}" for word, n in one.states.items()) or "no rows yet")}</title>',
             f'<rect x="{x}" y="{y:.1f}" width="{_WIDE}" height="{_HIGH}" rx="6" fill="currentColor" fill-opacity=".04" stroke="currentColor" '
             f'stroke-opacity=".5"{dashes}/>',
             f'<text x="{x + 10}" y="{y + 19:.1f}" fill="currentColor" font-weight="600">{escape(name)}</text>',
             f'<text x="{x + 10}" y="{y + 36:.1f}" fill="currentColor" font-size="11">{ok:,} of {total:,} ok'
             f'{escape(", " + ", ".join(others[:1]) if others else "")}</text>']  # fmt: skip
    width, at = _WIDE - 20, x + 10.0
    lines.append(f'<rect x="{at}" y="{y + 45:.1f}" width="{width}" height="8" rx="2" fill="currentColor" fill-opacity=".12"/>')
    for word, colour in STATES.items():
        part = width * one.states.get(word, 0) / total
        if part > 0:
            lines.append(f'<rect x="{at:.2f}" y="{y + 45:.1f}" width="{max(1.0, part):.2f}" height="8" fill="{colour}"/>')
            at += part
    return "".join([*lines, "</g>"])
