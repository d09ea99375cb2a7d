"""`notify.command`: once for each event, whatever it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.ledger import notices
from icp.ledger.db import Ledger, open_ledger
from icp.places import places

pytestmark = pytest.mark.long

Icp = Callable[..., Any]
GOOD = """name = "good"
jobs = 2
command = "echo $args(job) > out"
outputs = ["out"]
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""
BAD = """name = "bad"
jobs = 5
stop_loss = 2
max_tries = 1
command = "echo no luck >&2; exit 3"
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """What was told, one line each; the command is set."""
    path = tmp_path / "told"
    configure(f"cat >> '{path}'")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configure(command: str, more: str = "") -> None:
    quoted = json.dumps(command)
    places().config.write_text(f"[run]\npause_local = 0.2\n[policy]\nbackoff = [0]\n[notify]\ncommand = {quoted}\n{more}\n")


def submit(icp: Icp, tmp_path: Path, text: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    ran = icp("submit", "s.toml")
    assert ran.rc == 0, ran


def ledger() -> Ledger:
    return open_ledger(places().ledger)


def ticks(icp: Icp, done: Callable[[], bool]) -> list[Any]:
    """Cron's ticks until it is done, and some more."""
    ran, more = [], 3
    deadline = time.monotonic() + 60
    while more:
        ran.append(icp("run", "--once", "--log", places().state / "cron.log"))
        more -= done()
        assert time.monotonic() < deadline
    return ran


def test_complete_and_stop_loss_are_told_once_each(icp: Icp, tmp_path: Path, told: Callable[[], list[dict[str, Any]]]) -> None:
    submit(icp, tmp_path, GOOD)
    submit(icp, tmp_path, BAD)
    ran = ticks(icp, lambda: len(told()) >= 2)
    assert {(one.rc, one.out, one.err) for one in ran} == {(0, "", "")}
    assert sorted((one["event"], one["dataset"]) for one in told()) == [("complete", "good"), ("stop-loss", "bad")]
    complete = next(one for one in told() if one["event"] == "complete")
    assert str(tmp_path / "outputs" / "good") in complete["text"]
    assert complete["site"] is None
    shown = json.loads(icp("cron", "show", "--json").out)["notices"]
    assert {one["state"] for one in shown} == {"told"}
    assert icp("ledger", "check").rc == 0


def test_the_loop_tells_too(icp: Icp, tmp_path: Path, told: Callable[[], list[dict[str, Any]]]) -> None:
    submit(icp, tmp_path, GOOD)
    assert icp("run", "--until-done").rc == 0
    assert [one["event"] for one in told()] == ["complete"]


def test_a_command_that_fails_is_in_the_log_and_is_not_called_again(icp: Icp, tmp_path: Path) -> None:
    configure("echo x >> called; echo 'no mail here' >&2; exit 7")
    submit(icp, tmp_path, GOOD)
    failed = lambda: "failed" in str(icp("cron", "show", "--json").out)  # noqa: E731
    ran = ticks(icp, failed)
    assert {one.err for one in ran} == {""}
    log = (places().state / "cron.log").read_text()
    assert log.count("notify.command failed") == 1
    assert "exit 7: no mail here" in log
    assert (tmp_path / "called").read_text() == "x\n"


def test_a_command_that_hangs_is_ended_and_holds_no_tick_up(icp: Icp, tmp_path: Path) -> None:
    configure("exec sleep 1000", "timeout = 1")
    submit(icp, tmp_path, GOOD)
    ticks(icp, lambda: "failed" in str(icp("cron", "show", "--json").out))
    assert "did not end within 1 s" in (places().state / "cron.log").read_text()


def test_only_what_is_asked_for(icp: Icp, tmp_path: Path) -> None:
    path = tmp_path / "told"
    configure(f"cat >> '{path}'", 'events = ["stop-loss"]')
    submit(icp, tmp_path, GOOD)
    assert icp("run", "--until-done").rc == 0
    assert not path.exists()
    assert "nobody asked" in icp("cron", "show").out
    configure("true", 'events = ["lunch"]')
    assert "notify.events" in icp("status", "--json").err + icp("run", "--once").err


def test_no_tick_for_long_is_told_once_and_also_while_another_engine_holds_the_lock(
    icp: Icp, tmp_path: Path, told: Callable[[], list[dict[str, Any]]]
) -> None:
    from filelock import FileLock

    submit(icp, tmp_path, GOOD.replace("jobs = 2", "jobs = 2\npriority = 1"))
    with FileLock(str(places().lock)):
        one = ledger()
        with one.write():
            one.set_meta("last_tick", time.time() - 7300)
        one.close()
        for _ in range(3):
            ran = icp("run", "--once", "--log", places().state / "cron.log")
            assert (ran.rc, ran.err) == (0, "")
        assert [one["event"] for one in told()] == ["no-tick"]
        assert "2.0 h" in told()[0]["text"]
    ticks(icp, lambda: len(told()) >= 2)
    assert sorted(one["event"] for one in told()) == ["complete", "no-tick"]


@pytest.mark.parametrize(("point", "times"), [("engine.notice_taken", 0), ("engine.notice_begun", 1)])
def test_killed_around_the_command_it_is_told_at_most_once(
    icp: Icp, tmp_path: Path, told: Callable[[], list[dict[str, Any]]], point: str, times: int
) -> None:
    submit(icp, tmp_path, GOOD)
    token = tmp_path / "token"
    token.write_text("")
    killed = 0
    deadline = time.monotonic() + 60
    while not killed:
        ran = icp("run", "--once", "--log", places().state / "cron.log", ICP_FAULT=f"{point}:1:{token}:kill")
        killed += ran.rc == -9
        assert time.monotonic() < deadline
    for _ in range(3):
        assert icp("run", "--once", "--log", places().state / "cron.log").rc == 0
    while len(told()) < times:
        assert time.monotonic() < deadline, "the command goes on when the one that began it is gone"
        time.sleep(0.1)
    assert len(told()) == times
    assert "nobody saw how that ended" in icp("cron", "show").out
    assert icp("ledger", "check").rc == 0


def test_what_is_handed_to_the_command_is_never_handed_again(icp: Icp, tmp_path: Path) -> None:
    """A kill between the note in the ledger and the command's start leaves it untold; that is said, and it is not told late."""
    submit(icp, tmp_path, GOOD)
    one = ledger()
    with one.write() as db:
        notices.add(db, "complete", "first", dataset=1, at=1.0)
        notices.add(db, "paused", "second", at=2.0)
    assert [found.text for found in notices.take(one, ("complete", "paused"), 1, 3.0)] == ["first"]
    assert [found.text for found in notices.take(one, ("complete", "paused"), 5, 4.0)] == ["second"]
    assert notices.take(one, ("complete", "paused"), 5, 5.0) == []
    one.close()
    assert "nobody saw how that ended" in icp("cron", "show").out
