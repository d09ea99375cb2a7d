"""The dashboard of `icp status --watch`, which people leave open: what is on it, and how it is looked at (hides how it is laid out)."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icp import output
from icp.commands.status import COLOURS, STATES, dataset_bar, engine_line, needs_engine, read, site_line
from icp.commands.story import pace
from icp.output import clean, number, paint

if TYPE_CHECKING:
    from icp.ledger.db import Ledger
    from icp.ledger.views import DatasetView, ErrorView, SiteView
    from icp.ledger.views_work import ProgressView

__all__ = ["Frame", "Part", "at_sites", "failures", "frame", "line", "rows_of", "watch"]

Ended = Callable[["list[DatasetView]"], bool]

ERRORS = 3
LOCKED = 1.0
"""Seconds that a frame waits for the ledger; then the last one stays, and says so."""
NAME, BAR = 40, 40
"""Columns of a name, and of a bar, at the most."""


@dataclass(frozen=True)
class Frame:
    """One screen: its lines, the first row of its middle part that is shown, and how many are shown at once."""

    lines: list[str]
    begin: int
    page: int


def done(datasets: list[DatasetView]) -> bool:
    """Whether nothing is left that moves by itself."""
    return all(one.state != "processing" for one in datasets)


@dataclass(frozen=True)
class Part:
    """What is moved through: ``count`` lines, of which ``lines(begin, end)`` gives some, below ``heads`` lines that stay."""

    count: int
    lines: Callable[[int, int], list[str]]
    heads: int = 0
    said: str = ""
    """Of all of it, where not all can be seen."""


def frame(top: str, middle: Part, sites: Sequence[str], errors: Sequence[str], keys: str, columns: int, rows: int, begin: int = 0) -> Frame:
    """The screen: ``top``, as much of the middle as there is room for, sites, errors, and what keys do; no wider and no higher than the terminal."""
    above = [*output.folded(top, columns=columns), ""]
    used = len(above) + middle.heads
    keep = min(middle.count, max(3, (rows - used) // 2)) + 1
    errors = errors[: max(0, (rows - used - keep) // 2 - 1)]
    room = max(0, rows - used - keep - 2 - (len(errors) + 1 if errors else 0))
    if len(sites) > room:
        sites = [*sites[: max(0, room - 1)], paint("and more sites: `icp site list`", "dim")]
    below = [*(["", *sites] if sites else []), *(["", *errors] if errors else [])]
    page = max(1, rows - used - len(below) - 1)
    more = middle.count > page
    if more:
        page = max(1, page - 1)
    begin = max(0, min(begin, middle.count - page))
    end = min(middle.count, begin + page)
    part = middle.lines(begin, end)
    if more:
        said = f"{begin + 1}-{end} of {middle.count}" + (f": {middle.said}" if middle.said else "")
        part.append(paint(output.folded(said, columns=columns)[0].rstrip(",:"), "dim"))
        keys += "; ↑ ↓ PgUp PgDn Home End move"
    lines = [*above, *part, *below]
    lines = [*lines[: rows - 1], *[""] * (rows - 1 - len(lines)), paint(keys, "dim")]
    return Frame([output.cut(text, columns) for text in lines[-rows:]], begin, page)


def in_order(datasets: list[DatasetView]) -> list[DatasetView]:
    """What moves first, then what waits for a person, then what ended; each with the newest first."""
    rank = {"processing": 0, "suspended": 1, "errors": 1}
    return sorted(datasets, key=lambda one: (rank.get(one.state, 2), -one.number))


def rows_of(datasets: list[DatasetView], part: list[DatasetView], pace_of: Callable[[DatasetView], ProgressView], columns: int) -> list[str]:
    """A line of each dataset of ``part``, below a line of heads. Columns are as wide as any of ``datasets`` may ever make them: none of them moves."""
    digits = max((len(number(one.tasks)) for one in datasets), default=1)
    names = max((len(clean(one.name)) for one in datasets), default=4)
    counts = {word: max(len(word), digits) for word in ("ok", "run", "queued", "wait", "failed")}
    used = max((len(str(one.number)) for one in datasets), default=1) + 2 + 2 + 10 + 2 + 6 + sum(1 + wide for wide in counts.values())
    speed = max(0, columns - used - min(names, NAME if columns >= 100 else 16) - 2 - 10)
    shown = {"rate": 9, "to go": 8} if speed >= 19 else {"to go": 8} if speed >= 9 else {}
    left = columns - used - sum(1 + wide for wide in shown.values())
    cells = max(8, min(BAR, left - min(names, NAME)))
    name = min(names, max(8, left - cells))
    heads = [">#", "name", "state", "tasks", ">done", *(f">{word}" for word in counts), *(f">{word}" for word in shown)]
    table = []
    for one in part:
        found = pace_of(one) if shown and one.state == "processing" else None
        numbers = {"ok": one.ok, "run": one.processing, "queued": one.queued, "wait": one.waiting + one.idle + one.unreleased, "failed": one.failed}
        speeds = {
            "rate": pace(found, spread=False).replace(" tasks", "") if found is not None and found.rate else "",
            "to go": output.duration(found.to_go) if found is not None and found.to_go is not None else "",
        }
        failed = "red" if one.failed else ""
        table.append([
            str(one.number), output.middled(clean(one.name), name).ljust(name), paint(one.state, COLOURS[one.state]) + " " * (10 - len(one.state)),
            dataset_bar(one, cells),
            f"{100 * one.ok // one.tasks if one.tasks else 0:>3}%",
            *(paint(f"{number(n):>{counts[word]}}", failed if word == "failed" else "") for word, n in numbers.items()),
            *(f"{speeds[word]:>{wide}}" for word, wide in shown.items()),
        ])  # fmt: skip
    return output.table(heads, table, tight=True, columns=columns)


def at_sites(sites: list[SiteView], columns: int) -> list[str]:
    """The sites, those first with which something is the matter."""
    order = sorted(sites, key=lambda one: one.reachable and one.login is None and one.paused is None)
    return [text for one in order for text in output.folded(site_line(one), columns=columns)]


def failures(errors: list[ErrorView], now: float, columns: int) -> list[str]:
    """A line of each kind of failure; two where one is too short."""
    lines = []
    for error in errors:
        last = clean(next((text for text in reversed(error.text.splitlines()) if text.strip()), "").strip())
        exit_ = "" if error.exit is None else f" exit {error.exit}"
        head = f"{error.n}x {error.kind}{exit_} in {clean(error.task)} of {clean(error.dataset)}, {output.ago(error.at, now)}"
        if len(head) + 2 + len(last) <= columns:
            lines.append(f"{paint(head, 'red')}: {last}")
        else:
            lines += [paint(head, "red"), f"   {last}"]
    return lines


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
    keys: str = "q leaves",
) -> bool:
    """Show the ledger until Ctrl-C or q, until ``stop`` says so, or with ``until_done`` until nothing is left to do; False: a person left."""
    from icp.commands.terminal import able

    show = _live if able() else _lines
    chosen = {"dataset": dataset, "category": category, "site": site, "state": state}
    return show(ledger, chosen, lambda datasets: stop() or (until_done and done(datasets)), pause, keys)


def _lines(ledger: Ledger, chosen: dict[str, Any], ended: Ended, pause: float, _keys: str) -> bool:
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
            return True
        time.sleep(pause)


def picture(ledger: Ledger, chosen: dict[str, Any], keys: str, columns: int, rows: int, begin: int = 0) -> tuple[Frame, list[DatasetView]]:
    """What is on the screen now, and the datasets that it is about."""
    from icp.commands import story
    from icp.ledger import views, views_work

    now = time.time()
    datasets, sites, engine = read(ledger, **chosen)
    top = engine_line(engine, needs_engine(datasets), now)
    with ledger.read() as db:
        if chosen["dataset"] is not None and datasets:
            told = story.whole(story.read(db, datasets[0], now))
            return frame(top, Part(len(told), lambda a, b: told[a:b]), at_sites(sites, columns), [], keys, columns, rows, begin), datasets
        last = views.last_errors(db, [one.number for one in datasets if one.state in ("processing", "errors", "suspended")], ERRORS)
        order, count = in_order(datasets), Counter(one.state for one in datasets)
        middle = Part(
            len(order), lambda a, b: rows_of(order, order[a:b], lambda one: views_work.progress(db, one, now), columns), 1,
            ", ".join(f"{count[word]} {word}" for word in STATES if count[word]),
        )  # fmt: skip
        if not datasets:
            nothing = "no dataset" + (" like that" if any(chosen.values()) else " yet: `icp submit steering.toml`")
            middle = Part(0, lambda a, b: [nothing], 1)
        return frame(top, middle, at_sites(sites, columns), failures(last, now, columns), keys, columns, rows, begin), datasets


def _live(ledger: Ledger, chosen: dict[str, Any], ended: Ended, pause: float, keys: str) -> bool:
    from icp.commands.terminal import Terminal
    from icp.errors import Locked

    ledger.wait_no_longer_than(LOCKED)
    begin, shown, datasets = 0, Frame([], 0, 1), None
    try:
        with Terminal() as terminal:
            while datasets is None or not ended(datasets):
                size = terminal.size
                try:
                    shown, datasets = picture(ledger, chosen, keys if terminal.heard else "Ctrl-C leaves", *size, begin)
                    lines = shown.lines
                except Locked:
                    lines = [*shown.lines[:-1], paint("the ledger is locked by another process: this is what was there before", "red")]
                terminal.draw(lines)
                begin = shown.begin
                key = terminal.wait(pause)
                if key == "q":
                    return False
                moves = {"up": -1, "down": 1, "page up": -shown.page, "page down": shown.page, "home": -begin, "end": 10**9}
                begin += moves.get(key or "", 0)
    finally:
        # what was seen last stays on the screen that was there before
        for text in "\n".join(shown.lines[:-1]).rstrip("\n").split("\n") if shown.lines else ():
            output.say(text)
    return True
