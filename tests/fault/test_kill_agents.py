"""The main job while its pilots are killed in the middle of work, their journals torn, and their disk full for a while."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from main_job import Home, Result, until

from icp.ledger.control import Control
from icp.ledger.definitions import Definitions

pytestmark = pytest.mark.long

NAP = "0.15"


def session(pid: int) -> int | None:
    """The session of a process; None if it has just ended."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def at_work(home: Home) -> tuple[int, int]:
    """(supervisor, agent) of an agent that runs a task."""
    until(lambda: home.agents() and any(home.tasks()), "an agent at work")
    return home.agents()[0]


def journal(home: Home) -> Path:
    """The newest segment of the only agent that is alive, once there is one."""

    def newest() -> list[Path]:
        agents = [json.loads(note.read_text())["agent"] for note in home.node.glob("*/*.json")]
        return sorted((path for one in agents for path in (home.spool / "agents" / one).glob("journal.*")), key=lambda path: int(path.suffix[1:]))

    return Path(until(newest, "a journal")[-1])


def test_agent_supervisor_both_and_the_whole_batch_job_killed(home: Home, golden: Result) -> None:
    engine = home.start(ICP_TEST_NAP=NAP)
    home.kill([at_work(home)[1]])
    until(lambda: home.ask("SELECT 1 FROM agent WHERE state = 3"), "the agent's end in the ledger")
    home.kill([at_work(home)[0]])
    until(lambda: home.ask("SELECT count(*) FROM agent WHERE state = 3") == [(2,)], "the second agent's end in the ledger")
    home.kill(at_work(home))
    until(lambda: home.ask("SELECT count(*) FROM agent WHERE state = 3") == [(3,)], "the third agent's end in the ledger")
    at_work(home)
    home.kill([pid for pid in home.processes() if pid != engine.pid and session(pid) not in (None, os.getsid(engine.pid))])
    assert home.finish(engine) == 0, home.said
    home.assert_result(golden)


def test_everything_killed_at_once_engine_included(home: Home, golden: Result) -> None:
    """As if the machine went down: nothing but what was durable is there, and the next engine goes on from it."""
    engine = home.start(ICP_TEST_NAP=NAP)
    until(lambda: home.ask("SELECT 1 FROM task WHERE accepted IS NOT NULL"), "a first result")
    at_work(home)
    home.kill(home.processes())
    assert home.finish(engine) == -signal.SIGKILL
    home.run()
    home.assert_result(golden)


def test_torn_journals(home: Home, golden: Result) -> None:
    """The last line of a living agent's journal is cut in the middle, that of one that dies is overwritten."""
    engine = home.start(ICP_TEST_NAP=NAP)
    for tear in ("cut", "overwritten"):
        until(lambda: at_work(home) and b"ended" in journal(home).read_bytes(), "a task's end in the journal")
        supervisor, agent = at_work(home)
        os.kill(agent, signal.SIGSTOP)
        path = journal(home)
        size = path.stat().st_size
        if tear == "cut":
            os.truncate(path, size - 40)
            os.kill(agent, signal.SIGCONT)
            until(lambda supervisor=supervisor: (supervisor, agent) not in home.agents(), "the agent's end")  # noqa: B023
        else:
            with path.open("r+b") as stream:
                stream.seek(size - 40)
                stream.write(b"\xff" * 20)
            home.kill([agent])
    assert home.finish(engine) == 0, home.said
    home.assert_result(golden)


def test_a_living_agent_whose_journal_is_damaged_is_drained(make_home: Callable[..., Home], golden: Result) -> None:
    """What it goes on to tell cannot be read: others shall do what it holds, and not only when it has nothing left to do."""
    home = make_home(idle=1000)
    home.submit()
    engine = home.start(ICP_TEST_NAP=NAP)
    until(lambda: at_work(home) and b"ended" in journal(home).read_bytes(), "a task's end in the journal")
    _, agent = at_work(home)
    os.kill(agent, signal.SIGSTOP)
    path = journal(home)
    os.truncate(path, path.stat().st_size - 40)
    os.kill(agent, signal.SIGCONT)
    until(lambda: home.ask("SELECT 1 FROM pilot WHERE stopping = 2 AND live = 0"), "the pilot's end")
    until(lambda: home.ask("SELECT 1 FROM dataset WHERE state = 2"), "the dataset's end")
    ledger = home.ledger()
    with ledger.write() as db:
        db.execute("UPDATE pilot SET stopping = 1 WHERE live = 1")
    ledger.close()
    assert home.finish(engine) == 0, home.said
    home.assert_result(golden)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB: our program there has some hundred kB."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({done.stderr.strip()}): full disks are tried by fault points only")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all that is free."""
    path = place / "filler"
    with path.open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass
    return path


def test_disk_of_the_spool_full_for_a_while(make_home: Callable[..., Home], small_disk: Path, golden: Result) -> None:
    """Neither exchange nor agent can write; nothing is lost, and all goes on when there is room again."""
    home = make_home(root=small_disk / "site")
    home.submit()
    engine = home.start(ICP_TEST_NAP=NAP)
    ledger = home.ledger()
    until(lambda: at_work(home) and home.ask("SELECT 1 FROM task WHERE accepted IS NOT NULL"), "a first result")
    filler = fill(small_disk)
    Control(ledger, Definitions(ledger.db), 1, time.time()).reset_jobs(0, 1)
    until(lambda: home.ask("SELECT 1 FROM site WHERE failures > 2"), "exchanges that could not write their orders")
    filler.unlink()
    ledger.close()
    assert home.finish(engine) == 0, home.said
    assert "No space left on device" in home.said
    home.assert_result(golden)
