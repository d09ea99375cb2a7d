"""What people look at, as it is printed: on terminals of 80 and 200 columns, with and without colours, in a pipe, with 1, 30 and 300 datasets.

`ICP_GOLDEN=write` writes the files anew; look at each before it is committed.
"""

import importlib.util
import io
import os
import re
import shutil
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icp import cli, output
from icp.commands import dashboard
from icp.ledger import sites
from icp.ledger.db import open_ledger
from tests.screens import CLOCK, fill

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "screens"
SCREENS = {
    "status": ("status",),
    "status-dataset": ("status", "muons", "--plot"),
    "status-site": ("status", "--site", "nsa", "--plot"),
    "status-category": ("status", "--category", "ice", "--state", "processing"),
    "show": ("show", "muons"),
    "show-job": ("show", "muons", "--job", "3"),
    "show-failed": ("show", "muons", "--job", "161"),
    "why": ("why", "muons"),
    "why-job": ("why", "muons", "--job", "161"),
    "stats": ("stats", "muons", "--by", "site"),
    "stats-plot": ("stats", "muons", "--stat", "hits", "--task", "detect", "--plot"),
}
TERMS = {"80-colours": "xterm", "80-deep": "xterm-256color"}
MODES = {"80-deep": (80, True), "80": (80, False), "200": (200, False), "80-colours": (80, True), "pipe": (None, False)}
CASES = [(1, name, mode) for name in SCREENS for mode in ("80", "200")]
CASES += [(1, name, mode) for name in ("status-dataset", "show-job") for mode in ("80-colours", "pipe")]
CASES += [(1, name, "80-deep") for name in ("status-dataset", "why")]
CASES += [(n, "status", mode) for n in (30, 300) for mode in MODES if mode != "80-deep"]
WATCHED = {"80": (80, 24, False), "200": (200, 50, False), "80-colours": (80, 24, True)}
"""Of the dashboard: columns, rows, colours."""
WATCH_CASES = [(n, "watch", mode) for n in (0, 1, 30, 300) for mode in ("80", "200")]
WATCH_CASES += [(1, name, mode) for name in ("watch-dataset", "watch-trouble") for mode in ("80", "200")] + [(1, "watch", "80-colours")]
CONFIGURED = '[site.{0}]\nhost = "{0}"\nscheduler = "slurm"\nroot = "/home/ana/.icp"\n[site.{0}.pilot]\ncpus = 4\nmax = 3\n'
WRITE = os.environ.get("ICP_GOLDEN") == "write"  # tests see nothing of ours in their environment


class Screen(io.StringIO):
    terminal = True

    def isatty(self):
        return self.terminal


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    made = {}

    def home(datasets):
        if datasets not in made:
            made[datasets] = tmp_path_factory.mktemp(f"screens{datasets}")
            if datasets:
                fill(made[datasets], datasets)
            else:
                open_ledger(made[datasets] / "ledger.sqlite", create=True, now=CLOCK).close()
            (made[datasets] / "config.toml").write_text("".join(CONFIGURED.format(name) for name in ("nsa", "nsb")))
        return made[datasets]

    return home


@pytest.fixture
def look(homes, monkeypatch):
    """``look(datasets, words, columns)`` -> what is on the screen."""

    def call(datasets, words, columns=80, colours=False, term="xterm"):
        for key, value in {"ICP_HOME": str(homes(datasets)), "TZ": "UTC", "TERM": term, "COLUMNS": str(columns or 80)}.items():
            monkeypatch.setenv(key, value)
        for key in ("NO_COLOR", "COLORTERM"):
            monkeypatch.delenv(key, raising=False)
        if not colours:
            monkeypatch.setenv("NO_COLOR", "1")
        screen = Screen()
        screen.terminal = columns is not None
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(time, "time", lambda: CLOCK)
        time.tzset()
        assert cli.main(list(words)) == 0
        return screen.getvalue()

    yield call
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("datasets", "name", "mode"), CASES)
def test_a_screen_is_as_it_was_looked_at(look, datasets, name, mode):
    columns, colours = MODES[mode]
    said = look(datasets, SCREENS[name], columns, colours, TERMS.get(mode, "xterm"))
    path = GOLDEN / f"{name}-{datasets}.{mode}.txt"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
    assert said == path.read_text()
    assert ("\x1b" in said) == colours
    if columns:
        assert max(len(output.strip(line)) for line in said.splitlines()) <= columns


@pytest.mark.parametrize(("datasets", "name", "mode"), WATCH_CASES)
def test_the_dashboard_is_as_it_was_looked_at(homes, look, monkeypatch, tmp_path, datasets, name, mode):
    columns, rows, colours = WATCHED[mode]
    look(datasets, ("status", "--quiet"), columns, colours)  # the terminal and the clock
    path = homes(datasets) / "ledger.sqlite"
    if name == "watch-trouble":
        trouble(path := Path(shutil.copy(path, tmp_path / "ledger.sqlite")))
    ledger = open_ledger(path)
    chosen = {"dataset": "muons" if name == "watch-dataset" else None, "category": None, "site": None, "state": None}
    frame, _ = dashboard.picture(ledger, chosen, "q leaves", columns, rows)
    ledger.close()
    assert len(frame.lines) == rows
    assert max(len(output.strip(line)) for line in frame.lines) <= columns
    said = "".join(f"{line.rstrip()}\n" for line in frame.lines)
    golden = GOLDEN / f"{name}-{datasets}.{mode}.txt"
    if WRITE:
        golden.write_text(said)
    assert said == golden.read_text()
    assert ("\x1b" in said) == colours


def trouble(path):
    """A site that needs a login, one that does not answer, and one that icp has paused."""
    ledger = open_ledger(path)
    numbers = dict(ledger.db.execute("SELECT name, id FROM site").fetchall())
    with ledger.write() as db:
        sites.unreachable(db, numbers["nsb"], "nsb asks whoever comes in for a password or a code", CLOCK - 7200, login=True)
        sites.unreachable(db, numbers["nsa"], "nsa does not answer; check the network or VPN; it is tried again later", CLOCK - 600)
        sites.pause(db, numbers["local"], "its last 3 pilots ended before an agent started: no Python")
    ledger.close()


def luminance(red, green, blue):
    """Relative luminance of WCAG 2.1."""
    linear = [one / 255 / 12.92 if one / 255 <= 0.03928 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_read_on_white_and_on_black(monkeypatch):
    """Terminals of 256 colours have these in common; the first sixteen are everybody's own."""
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "screen-256color")
    levels = (0, 95, 135, 175, 215, 255)
    for colour in ("red", "green", "yellow", "blue", "cyan"):
        code = int(re.match(r"\x1b\[38;5;(\d+)m", output.paint("x", colour))[1]) - 16
        light = luminance(*(levels[code // by % 6] for by in (36, 6, 1)))
        assert 1.05 / (light + 0.05) > 3.8 and (light + 0.05) / 0.05 > 3.8, colour


class Tags(HTMLParser):
    """Open elements, and what the page would load from elsewhere."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.wrong = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [value for key, value in attrs if key in ("src", "href", "xlink:href") and not value.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.wrong.append(tag)


def test_a_report_is_one_page_that_needs_nothing_else(look, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "r.html"
    look(1, ("report", "muons", "-o", str(path)))
    text = path.read_text()
    tags = Tags()
    tags.feed(text)
    assert (tags.open, tags.outside, tags.wrong) == ([], [], [])
    assert "@import" not in text
    assert "url(http" not in text
    for part in ("526 of 601", "detect", "126 of 200 ok", "14 &times;", "ValueError: no hits in event 12", "66.", "core-hours", "prefers-color-scheme:dark"):
        assert part in text
    pictures = re.findall(r'aria-label="([^"]*)"', text)
    assert pictures == [
        "tasks and what they wait for", "completion and cpus in use over time", "efficiency by site", "efficiency by task", "histograms of statistics",
    ]  # fmt: skip
    assert "#010203" not in text
    assert not list(tmp_path.glob("*.part*"))


def test_a_report_of_a_dataset_of_which_nothing_is_done_yet(look, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "r.html"
    look(30, ("report", "noise-studies-1", "-o", str(path)))
    assert "Nothing has ended yet" in path.read_text()


def test_a_report_says_what_is_missing_where_there_is_no_matplotlib(homes, monkeypatch, capsys):
    monkeypatch.setenv("ICP_HOME", str(homes(1)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["report", "muons"]) == 4
    said = capsys.readouterr().err
    assert "matplotlib is not installed" in said
    assert "icp-pool[plots]" in said
