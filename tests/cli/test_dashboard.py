"""The dashboard: what is on it at any size, its keys, and that the terminal is as it was before, however it ends."""

import os
import re
import signal
import sqlite3
import sys
import termios
import time
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp import output
from icp.commands import dashboard
from icp.errors import Locked
from icp.ledger import views, views_work
from icp.ledger.db import Ledger, open_ledger
from tests.ledger.build import World, task
from tests.screens import fill

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"


# -- what is on it ------------------------------------------------------------------------------------------------


def test_it_fits_its_terminal_and_shows_what_matters(world, monkeypatch):
    monkeypatch.setattr(output, "coloured", lambda: False)
    dataset = world.submit(10, task("a", max_tries=1, outputs=["a.txt"]), name="muons")
    world.release(dataset)
    agent = world.agent(cpus=4)
    tries = world.deal(dataset, 2)
    world.claim(agent, *tries)
    world.ended(agent, *tries, result="error", err="Traceback\nValueError: bad \x1b[31mfile\x07 17")
    (one,) = views.datasets(world.db)
    found = views_work.ProgressView(0.1, 0.01, 4, 40.0, 35.5, 46.5, 0.1, 0.0, 1.0, 0.1, 9)
    errors = dashboard.failures(views.last_errors(world.db, [dataset]), 1_790_000_100.0, 80)
    many = dashboard.Part(30, lambda a, b: dashboard.rows_of([one] * 30, [one] * (b - a), lambda one: found, 80), 1)
    seen = dashboard.frame("engine: last tick 1 s ago", many, ["site local: pilots none"], errors, "q leaves", 80, 24)
    assert len(seen.lines) == 24
    assert max(map(len, seen.lines)) <= 80
    text = "\n".join(seen.lines)
    for part in ("failed    to go", "2     40 s", f"1-{seen.page} of 30", "q leaves; ", "2x payload exit 1 in a of muons", "bad \\x1b[31mfile",
                 "site local", "engine: last tick"):  # fmt: skip
        assert part in text


WORDS = st.text("ab \x1b[31m", max_size=300)
SMALL = st.integers(0, 40)


@given(SMALL, SMALL, st.integers(0, 6), st.integers(1, 210), st.integers(1, 60), st.integers(-5, 60), WORDS)
def test_a_frame_is_never_wider_or_higher_than_its_terminal_and_all_of_it_can_be_reached(count, sites, errors, columns, rows, begin, top):
    middle = dashboard.Part(count, lambda a, b: ["head", *(f"row {n} " + "x" * 100 for n in range(a, b))], 1)
    rest = middle, ["site s " * 9] * sites, ["1x error " * 9] * errors, "q leaves", columns, rows
    seen = dashboard.frame(output.clean(top), *rest, begin)
    assert len(seen.lines) == rows
    assert max(len(output.strip(line)) for line in seen.lines) <= columns
    assert 0 <= seen.begin <= max(0, count - 1)
    if rows >= 12 and columns >= 20:
        last = dashboard.frame("engine", *rest, 10**9)
        assert sum(line.startswith("row ") for line in last.lines) >= min(count, 3)
        assert last.begin + last.page >= count, "End reaches the last"


def test_painted_sentences_are_broken_and_cut_as_they_look():
    red = "\x1b[31mdoes not answer since noon\x1b[0m"
    said = output.folded(f"site nsa: {red}; pilots none", columns=20)
    assert [output.strip(line) for line in said] == ["site nsa: does not", "  answer since noon;", "  pilots none"]
    assert said[0].endswith("not\x1b[0m")
    assert said[1].startswith("  \x1b[31manswer")
    assert output.strip(output.cut(f"site nsa: {red}", 16)) == "site nsa: does …"
    assert output.cut(f"site nsa: {red}", 16).endswith("\x1b[0m")
    assert output.cut(red, 26) == red


def test_columns_stay_where_they_are_when_numbers_grow_and_when_one_scrolls(world, monkeypatch):
    monkeypatch.setattr(output, "coloured", lambda: False)
    small, large = world.submit(2, name="a"), world.submit(12345, name="a-name-that-is-longer-than-all-the-others")
    world.release(large, 2)
    for columns in (80, 120, 200):
        heads = set()
        for _ in range(2):
            found = dashboard.in_order(views.datasets(world.db))
            for part in (found, found[:1], found[1:]):
                head, *rows = dashboard.rows_of(found, part, lambda one: views_work.progress(world.db, one, world.now), columns)
                heads.add(head)
                assert {len(row.rstrip()) <= columns for row in rows} == {True}
                assert {row.index("processing") for row in rows} == {head.index("state")}
            world.release(small)
        assert len(heads) == 1


# -- at a terminal ------------------------------------------------------------------------------------------------


class Watched:
    """`icp status --watch` at a terminal of its own."""

    def __init__(self, rows=24, columns=80, *words):
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "33", "LINES": "7"}  # what a shell exported once is not what the terminal is now
        self.child = pexpect.spawn(
            sys.executable, ["-m", "icp", "status", "--watch", *words], env=env, dimensions=(rows, columns), timeout=60, encoding="utf-8"
        )
        self.read = ""

    def see(self, pattern):
        """Waits for it; then what was written up to now is read."""
        self.child.expect(pattern)
        self.read += self.child.before + self.child.after

    def frame(self):
        """The lines of the last whole frame."""
        text = self.read.rpartition("\x1b[H")[2].partition(LEFT)[0]
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in text.split("\n")]

    def end(self):
        """Its exit code; what it wrote is read to the end."""
        self.child.expect(pexpect.EOF)
        self.read += self.child.before
        assert self.cooked(), "lines are edited and shown again"
        self.child.close()
        return self.child.exitstatus

    def cooked(self):
        both = termios.ICANON | termios.ECHO
        return termios.tcgetattr(self.child.child_fd)[3] & both == both


@pytest.fixture
def thirty():
    fill(Path(os.environ["ICP_HOME"]), 30)


@pytest.fixture
def start():
    begun = []

    def one(*words, **options):
        begun.append(Watched(*words, **options))
        return begun[-1]

    yield one
    for watched in begun:
        watched.child.close(force=True)


@pytest.mark.usefixtures("thirty")
def test_keys_move_through_all_datasets_and_q_leaves(start):
    seen = start()
    seen.see("1-1[0-9] of 30.*Home End move")
    assert seen.frame()[3].split()[:2] == ["30", "muons"]
    seen.child.send("\x1b[B\x1b[B")  # two at once, as from a key that is held down
    seen.see("3-[0-9]+ of 30.*move")
    assert seen.frame()[3].split()[0] == "21"
    for key, shown in (("\x1b[F", "-30 of 30"), ("\x1b[A", "-29 of 30"), ("\x1b[H", "1-"), ("\x1b[6~", "1[0-9]-"), ("k", "1[0-9]-"), ("g", "1-")):
        seen.child.send(key)
        seen.see(f"{shown}.*move")
    assert not seen.cooked()
    seen.child.send("q")
    assert seen.end() == 0
    assert seen.read.count(ENTERED) == seen.read.count(LEFT) == 1
    assert "\x1b[?25h" in seen.read.rpartition("move")[2], "there is a cursor again"
    assert "muons" in seen.read.rpartition(LEFT)[2], "what was seen last stays"


@pytest.mark.usefixtures("thirty")
def test_a_terminal_that_is_resized_is_filled_at_once(start):
    seen = start()
    seen.see("q leaves.*move")
    assert len(seen.frame()) == 24
    seen.child.setwinsize(45, 150)
    seen.see("rate    to go")
    seen.see("q leaves")
    assert len(seen.frame()) == 45
    seen.child.setwinsize(9, 50)
    seen.see("\x1b\\[H[^H]*q leaves")
    assert len(seen.frame()) == 9
    assert max(map(len, seen.frame())) <= 50
    seen.child.sendintr()
    assert seen.end() == 130
    assert "Traceback" not in seen.read
    assert "\x1b[?25h" in seen.read


@pytest.mark.usefixtures("thirty")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signals_that_end_it_leave_the_terminal_as_it_was(start, number, code):
    seen = start()
    seen.see("q leaves")
    seen.child.kill(number)
    assert seen.end() == code
    assert LEFT in seen.read
    assert "Traceback" not in seen.read


@pytest.mark.usefixtures("thirty")
def test_stopped_it_gives_the_terminal_back_and_takes_it_again_when_it_goes_on(start):
    seen = start()
    seen.see("q leaves")
    seen.child.kill(signal.SIGTSTP)
    seen.see(re.escape(LEFT))
    stat, deadline = Path(f"/proc/{seen.child.pid}/stat"), time.monotonic() + 30
    while stat.read_text().rpartition(") ")[2][0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    seen.child.kill(signal.SIGCONT)
    seen.see(re.escape(ENTERED))
    seen.see("q leaves")
    assert len(seen.frame()) == 24
    seen.child.send("q")
    assert seen.end() == 0


@pytest.mark.usefixtures("thirty")
def test_a_terminal_without_a_screen_gets_lines(start):
    words = "--until-done", "--state", "complete"
    seen = start(24, 80, *words)
    assert seen.end() == 0
    assert ENTERED in seen.read
    child = pexpect.spawn(sys.executable, ["-m", "icp", "status", "--watch", *words], env={**os.environ, "TERM": "dumb"}, timeout=60, encoding="utf-8")
    child.expect(pexpect.EOF)
    assert "\x1b" not in child.before
    assert "complete: 2 of 2 ok" in child.before


def test_a_ledger_that_is_locked_leaves_the_last_picture_and_says_so(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.submit(2, name="d")
    world.db.execute("PRAGMA journal_mode = delete")  # as on a network file system
    world.close()
    db = sqlite3.connect(world.ledger.path, isolation_level=None)
    ledger, other = Ledger(world.ledger.path, db), sqlite3.connect(world.ledger.path, isolation_level=None)
    drawn = []

    class Fake:
        heard, size = True, (80, 24)
        steps = iter([lambda: other.execute("BEGIN EXCLUSIVE"), lambda: other.execute("ROLLBACK"), lambda: None])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def draw(self, lines):
            drawn.append(lines)

        def wait(self, _seconds):
            next(self.steps)()
            return "q" if len(drawn) == 3 else None

    monkeypatch.setattr("icp.commands.terminal.Terminal", Fake)
    monkeypatch.setattr("icp.commands.terminal.able", lambda: True)
    monkeypatch.setattr(dashboard, "LOCKED", 0.1)
    assert dashboard.watch(ledger) is False
    assert drawn[1][:-1] == drawn[0][:-1]
    assert "the ledger is locked by another process" in drawn[1][-1]
    assert "locked" not in drawn[2][-1]
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Locked, match="is locked by another process"), ledger.read() as read:
        read.execute("SELECT * FROM dataset")
    with pytest.raises(Locked), ledger.write():
        pass
    other.close()
    db.close()
    open_ledger(world.ledger.path).close()


# -- in a pipe ----------------------------------------------------------------------------------------------------


def test_watching_in_a_pipe_prints_a_line_for_each_change_and_ends_when_all_is_done(world, run, monkeypatch):
    dataset = world.submit(2, name="d")
    steps = iter([lambda: world.release(dataset), lambda: None, lambda: world.run(dataset)])
    monkeypatch.setattr("icp.commands.dashboard.time.sleep", lambda seconds: next(steps)())
    assert run("status", "--watch", "--until-done").splitlines() == [
        "1 d processing: 0 of 2 ok, 0 running, 0 queued, 2 waiting, 0 failed",
        "1 d complete: 2 of 2 ok, 0 running, 0 queued, 0 waiting, 0 failed",
    ]
