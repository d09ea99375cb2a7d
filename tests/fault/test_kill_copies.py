"""A ledger that was copied, restored from a backup, or taken elsewhere: refused with a sentence, or adopted; nothing is counted twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from main_job import Home, Result, until

from icp.engine.adoption import adopt
from icp.engine.loop import engine_lock
from icp.ledger.db import backup

pytestmark = pytest.mark.long

NAP = "0.1"


def icp(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "icp", *words], env=home.env, capture_output=True, text=True, check=False)


def adopted(home: Home) -> None:
    ledger, config = home.ledger(), home.config()
    with engine_lock(config):
        adopt(ledger, config)
    ledger.close()


def copy(home: Home, target: Path) -> None:
    ledger = home.ledger()
    backup(ledger, target)
    ledger.close()


def begun(home: Home, results: int = 1) -> subprocess.Popen[str]:
    """An engine at work, that has so many results."""
    engine = home.start(ICP_TEST_NAP=NAP)
    until(lambda: home.ask("SELECT count(*) FROM task WHERE accepted IS NOT NULL")[0][0] >= results, "first results")
    return engine


def elsewhere(home: Home, make_home: Callable[..., Home]) -> Home:
    """The ledger as it is now, in another ICP_HOME that means the same spool."""
    other = make_home("other")
    copy(home, other.config().ledger)
    other.outputs = home.outputs
    return other


def assert_refused(home: Home, sentence: str) -> None:
    """The engine leaves with exit code 4 and says why; the ledger records nothing of tasks, attempts and orders."""
    counted = "SELECT (SELECT count(*) FROM attempt WHERE live = 0), (SELECT sum(accepted) FROM task), (SELECT serial FROM site)"
    before = home.ask(counted)
    done = icp(home, "run", "--until-done", "--quiet")
    assert done.returncode == 4, done.stderr
    assert sentence in done.stderr
    assert "icp ledger adopt" in done.stderr
    assert "Traceback" not in done.stderr
    assert home.ask(counted) == before


def test_a_copy_is_refused_when_the_original_went_on(home: Home, make_home: Callable[..., Home], golden: Result) -> None:
    engine = begun(home)
    other = elsewhere(home, make_home)
    assert home.finish(engine) == 0, home.said
    assert_refused(other, "this ledger is an old backup, or a copy of one that went on")
    home.assert_result(golden)


def test_the_original_is_refused_when_a_copy_went_on(home: Home, make_home: Callable[..., Home], golden: Result) -> None:
    engine = begun(home)
    home.kill([engine.pid])
    home.finish(engine)
    other = elsewhere(home, make_home)
    other.run()
    other.assert_result(golden)
    assert_refused(home, "this ledger is an old backup, or a copy of one that went on")
    # and it can have its spool back: what the copy recorded is learned from the journals, not counted again
    adopted(home)
    home.run()
    home.assert_result(golden)
    assert_refused_or_idle(other)


def assert_refused_or_idle(home: Home) -> None:
    """A ledger that has nothing to do asks nobody; told to do something, it is refused."""
    assert icp(home, "reset", "fault", "--jobs", "0", "--yes").returncode == 0
    assert_refused(home, "this ledger is a copy, or another one took its place at the site")


def test_a_restored_backup_is_refused_then_adopted(home: Home, golden: Result) -> None:
    """What happened since the backup is learned from the spool, or done again; what is home already is not fetched again."""
    engine = begun(home)
    saved = home.base / "backup.sqlite"
    copy(home, saved)
    (before,) = home.ask("SELECT serial FROM site")[0]
    until(lambda: home.ask("SELECT serial FROM site")[0][0] >= before + 2, "newer orders")
    home.kill([engine.pid])
    home.finish(engine)
    path = home.config().ledger
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    saved.replace(path)
    assert_refused(home, "this ledger is an old backup, or a copy of one that went on")
    adopted(home)
    home.run(ICP_TEST_NAP=NAP)
    home.assert_result(golden)


def test_the_adopting_engine_killed_on_the_way(home: Home, golden: Result) -> None:
    """Adopting again does what was not done; here after all had been complete, and most outputs were gone from the site."""
    engine = begun(home)
    saved = home.base / "backup.sqlite"
    copy(home, saved)
    assert home.finish(engine) == 0, home.said
    path = home.config().ledger
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    saved.replace(path)
    armed = home.faults("exchange.locked:1")
    killed = subprocess.run([sys.executable, "-m", "icp", "ledger", "adopt", "--yes"], env={**home.env, **armed}, capture_output=True, text=True, check=False)
    assert killed.returncode == 5, killed.stderr
    assert "`icp ledger adopt` again" in killed.stderr
    done = icp(home, "ledger", "adopt", "--yes")
    assert done.returncode == 0, done.stderr
    home.run()
    home.assert_result(golden)


def test_a_ledger_whose_spool_is_gone(make_home: Callable[..., Home], golden: Result) -> None:
    """As after a copy to another machine: nothing is believed lost until a person says that this ledger shall go on here."""
    home = make_home(policy="silent = 0.5")
    home.submit()
    engine = begun(home)
    home.kill(home.processes())
    home.finish(engine)
    shutil.move(home.spool, home.base / "gone")
    assert_refused(home, "the spool that this ledger used is gone, or this ledger was copied to another machine")
    adopted(home)
    # agents of the old spool end with it
    until(lambda: not home.processes(), "the end of old processes")
    home.run()
    home.assert_result(golden)
