"""Plots in a terminal: columns over time, histograms, and time lines, in block characters (hides eighths of a cell)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from icp import output
from icp.output import paint

if TYPE_CHECKING:
    from icp.ledger.views_stats import BinView
    from icp.ledger.views_work import CourseView

__all__ = ["course", "histogram", "timeline"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
WIDEST = 100
"""Columns of a plot where the terminal is wider."""


def _columns(heights: Sequence[float], top: float, rows: int, colour: str, said: Callable[[float], str]) -> list[str]:
    """One column for each height, with an axis of three labels."""
    labels = {0: said(top), rows - 1: said(0)}
    edge = max(map(len, labels.values()))
    lines = []
    for row in range(rows):
        floor = rows - 1 - row
        eighths = [max(0, min(8, round((height / top * rows - floor) * 8))) if top > 0 else 0 for height in heights]
        # what is there is seen
        cells = ["▁" if not eighth and floor == 0 and height > 0 else _EIGHTHS[eighth] for eighth, height in zip(eighths, heights, strict=True)]
        lines.append(f"  {labels.get(row, ''):>{edge}} {paint('│', 'dim')}{paint(''.join(cells).rstrip(), colour)}")
    return lines


def _stretched(values: Sequence[float], cells: int) -> list[float]:
    """As many values as there are cells."""
    return [values[at * len(values) // cells] for at in range(cells)]


def course(found: Sequence[CourseView], tasks: int | None, *, rows: int = 6) -> list[str]:
    """Completion and cpus in use over time; ``tasks``: all there are, which is the top of the first."""
    if len(found) < 2:
        return ["too short to plot: less than two minutes"]
    top = max(one.ok for one in found) if tasks is None else tasks
    busiest = max(one.busy for one in found)
    edge = max(len(output.number(top)), len(_slots(busiest)), 1)
    cells = max(10, min(output.width(), WIDEST) - edge - 5)
    ends = (found[0].at, found[-1].at + found[-1].seconds)
    lines = [paint(f"tasks ok: {output.number(found[-1].ok)}" + ("" if tasks is None else f" of {output.number(tasks)}"), "bold")]
    lines += _columns(_stretched([float(one.ok) for one in found], cells), float(top), rows, "green", lambda n: f"{output.number(n):>{edge}}")
    lines += _axis(ends, edge, cells)
    lines.append(paint(f"cpus in use: {_slots(busiest)} at the most", "bold"))
    lines += _columns(_stretched([one.busy for one in found], cells), busiest, rows, "cyan", lambda n: f"{_slots(n):>{edge}}")
    return lines + _axis(ends, edge, cells)


def _slots(n: float) -> str:
    return output.number(n) if n >= 10 or n == int(n) else f"{n:.1f}"


def _axis(ends: tuple[float, float], edge: int, cells: int) -> list[str]:
    form = "%H:%M" if ends[1] - ends[0] < 20 * 3600 else "%m-%d %H:%M"
    first, last = (time.strftime(form, time.localtime(one)) for one in ends)
    long = output.duration(ends[1] - ends[0])
    blanks = cells - len(first) - len(last)
    middle = f"{long:^{blanks}}" if blanks > len(long) + 1 else " " * max(1, blanks)
    return [f"  {'':>{edge}} {paint('└' + '─' * cells, 'dim')}", paint(f"  {'':>{edge}}  {first}{middle}{last}", "dim")]


def histogram(found: Sequence[BinView]) -> list[str]:
    """One line for each bin."""
    most = max((one.n for one in found), default=0)
    whole = all(one.high - one.low == 1 and one.low % 1 == 0.5 for one in found)
    lows, highs = [f"{one.low + 0.5 * whole:.4g}" for one in found], [f"{one.high:.4g}" for one in found]
    counts = [output.number(one.n) for one in found]
    low, high, count = (max(map(len, texts), default=0) for texts in (lows, highs, counts))
    ranges = lows if whole else [f"{lows[at]:>{low}} to {highs[at]:>{high}}" for at in range(len(found))]
    cells = max(8, min(output.width(), WIDEST) - low - high - count - 10)
    lines = []
    for at, one in enumerate(found):
        eighths = round(one.n / most * cells * 8) if most else 0
        # left to right these are other characters than upwards
        bar = "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
        lines.append(f"  {ranges[at]:>{low}}  {counts[at]:>{count}} {paint(bar or ('▏' if one.n else ''), 'cyan')}")
    return lines


def timeline(rows: Sequence[tuple[str, float, Sequence[tuple[float, str, str]]]]) -> list[str]:
    """(label, begin, (seconds, character, colour) of each phase) under one axis from the first begin to the last end."""
    first = min(begin for _, begin, _ in rows)
    last = max(begin + sum(seconds for seconds, _, _ in phases) for _, begin, phases in rows)
    edge = max(len(label) for label, _, _ in rows)
    cells = max(10, min(output.width(), WIDEST) - edge - 4)
    scale = cells / max(last - first, 1e-3)
    lines = []
    for label, begin, phases in rows:
        at = min(cells - 1, int((begin - first) * scale))
        said, used, reached = " " * at, at, begin - first
        for seconds, character, colour in phases:
            reached += seconds
            end = min(cells, round(reached * scale))
            end = max(end, used + 1) if seconds > 0 and used < cells and character == "█" else end
            if end > used:
                said += paint(character * (end - used), colour)
                used = end
        lines.append(f"  {label:<{edge}}  {said}")
    long, begun = output.duration(last - first), time.strftime("%H:%M:%S", time.localtime(first))
    ended = time.strftime("%H:%M:%S", time.localtime(last))
    blanks = cells - len(begun) - len(ended)
    middle = f"{long:^{blanks}}" if blanks > len(long) + 1 else " "
    return [*lines, paint(f"  {'':<{edge}}  {begun}{middle}{ended}", "dim")]
