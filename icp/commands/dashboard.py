"""The dashboard of `icp status --watch`, which people leave open (hides the terminal)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from icp import output
from icp.commands.status import dataset_bar, engine_line, needs_engine, read, site_line
from icp.commands.story import pace
from icp.output import clean, number, paint

if TYPE_CHECKING:
    from icp.ledger.db import Ledger
    from icp.ledger.views import DatasetView, ErrorView
    from icp.ledger.views_work import ProgressView

__all__ = ["frame", "line", "watch"]

Ended = Callable[["list[DatasetView]"], bool]

ERRORS = 3


def done(datasets: list[DatasetView]) -> bool:
    """Whether nothing is left that moves by itself."""
    return all(one.state != "processing" for one in datasets)


def frame(
    datasets: list[DatasetView],
    sites: list[str],
    engine: str,
    errors: list[ErrorView],
    pace_of: Callable[[DatasetView], ProgressView],
    now: float,
    columns: int,
    rows: int,
) -> list[str]:
    """The lines of the dashboard, no wider and no higher than the terminal."""
    lines = [engine, ""]
    room = max(1, (rows - 4 - len(sites) - (1 + 2 * len(errors))) // 2)
    # what moves is shown first; of the rest as many as there is room for
    order = sorted(datasets, key=lambda one: (one.state not in ("processing", "errors", "suspended"), -one.number))
    for one in order[:room]:
        found = pace_of(one) if one.state == "processing" else None
        speed = f"  {pace(found, spread=False)}" if found is not None and found.rate else ""
        if found is not None and found.to_go is not None:
            speed += f", {output.duration(found.to_go)} to go"
        share = 100 * one.ok // one.tasks if one.tasks else 0
        lines.append(f"{one.number} {clean(one.name)} {one.state}  {number(one.ok)}/{number(one.tasks)} ({share}%){speed}")
        waiting = one.waiting + one.idle + one.unreleased
        counts = [(one.processing, "running", ""), (one.queued, "queued", ""), (waiting, "waiting", ""), (one.failed, "failed", "red")]
        said = " ".join(paint(f"{number(n)} {word}", colour if n else "") for n, word, colour in counts if n)
        cells = max(10, min(40, columns - 2 - len(output.strip(said))))
        lines.append(f" {dataset_bar(one, cells)} {said}")
    if len(order) > room:
        lines.append(paint(f"and {len(order) - room} more", "dim"))
    lines += ["", *sites]
    if errors:
        lines.append("")
    for error in errors:
        last = next((text for text in reversed(error.text.splitlines()) if text.strip()), "")
        exit_ = "" if error.exit is None else f" exit {error.exit}"
        lines.append(paint(f"{error.n}x {error.kind}{exit_} in {clean(error.task)} of {clean(error.dataset)}, {output.ago(error.at, now)}", "red"))
        lines.append(f"   {clean(last.strip())}")
    return [_cut(text, columns) for text in lines[:rows]]


def _cut(text: str, columns: int) -> str:
    bare = output.strip(text)
    return text if len(bare) <= columns else bare[: columns - 1] + "…"


def line(one: DatasetView) -> str:
    """One dataset in one plain line: what a pipe gets when it changes."""
    waiting = one.waiting + one.idle + one.unreleased
    return (
        f"{one.number} {clean(one.name)} {one.state}: {one.ok} of {one.tasks} ok, {one.processing} running, {one.queued} queued, "
        f"{waiting} waiting, {one.failed} failed"
    )


def watch(
    ledger: Ledger,
    *,
    dataset: str | None = None,
    category: str | None = None,
    site: str | None = None,
    state: str | None = None,
    until_done: bool = False,
    pause: float = 1.0,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Show the ledger until Ctrl-C, until ``stop`` says so, or with ``until_done`` until nothing is left to do."""
    show = _live if sys.stdout.isatty() else _lines
    show(ledger, {"dataset": dataset, "category": category, "site": site, "state": state}, lambda datasets: stop() or (until_done and done(datasets)), pause)


def _lines(ledger: Ledger, chosen: dict[str, Any], ended: Ended, pause: float) -> None:
    last: dict[int, str] = {}
    while True:
        datasets, _, _ = read(ledger, **chosen)
        for one in datasets:
            text = line(one)
            if last.get(one.number) != text:
                output.say(text)
                sys.stdout.flush()
            last[one.number] = text
        if ended(datasets):
            return
        time.sleep(pause)


def _live(ledger: Ledger, chosen: dict[str, Any], ended: Ended, pause: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from icp.commands import story
    from icp.ledger import views, views_work

    console = Console()

    def picture() -> tuple[Text, list[DatasetView]]:
        now = time.time()
        datasets, sites, engine = read(ledger, **chosen)
        head = engine_line(engine, needs_engine(datasets), now)
        size = console.size
        at_sites = [site_line(one) for one in sites]
        with ledger.read() as db:
            if chosen["dataset"] is not None and datasets:
                told = story.whole(story.read(db, datasets[0], now))
                lines = [head, "", *told[: max(3, size.height - 4 - len(at_sites))], "", *at_sites]
                text = [_cut(one, size.width) for one in lines[: size.height - 1]]
            else:
                errors = views.last_errors(db, [one.number for one in datasets if one.state in ("processing", "errors", "suspended")], ERRORS)
                text = frame(datasets, at_sites, head, errors, lambda one: views_work.progress(db, one, now), now, size.width, size.height - 1)
        return Text.from_ansi("\n".join(text), no_wrap=True, overflow="crop"), datasets

    # drawn only when it is new, in one write: no flicker; Live puts the cursor back however this ends
    with Live(console=console, auto_refresh=False, screen=False, transient=False, vertical_overflow="crop") as live:
        while True:
            text, datasets = picture()
            live.update(text, refresh=True)
            if ended(datasets):
                return
            time.sleep(pause)
