"""Pilots whose agents are over while their batch job lives on: ended after a while, and not before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from icp.ledger import pilots
from icp.ledger.check import check
from icp.model.batch import Known, Submitted
from icp.model.plan import PilotSpec
from icp.states import Agent, Pilot
from tests.ledger.build import World

KEY = bytes(range(8))
WORDS = {"running": "went on", "pending": "waits to begin again"}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    world = World(tmp_path)
    yield world.db
    assert check(world.ledger) == []
    world.close()


def pilot(db: sqlite3.Connection, nodes: int = 1, ended: int = 1, live: int = 0) -> None:
    pilots.make_pilot(db, 1, KEY, PilotSpec(cpus=1, memory=1, gpus=0, walltime=600, nodes=nodes), 1.0)
    pilots.receipt(db, 1, KEY.hex(), Submitted("42"), 2.0, 2.0)
    pilots.settle_pilots(db, 1, {KEY.hex(): Known("running", "", None, "42")}, 3.0)
    for number in range(ended + live):
        state = Agent.ENDED if number < ended else Agent.LIVE
        db.execute(
            "INSERT INTO agent (name, pilot, site, state, live) VALUES (?, (SELECT id FROM pilot), 1, ?, ?)", (f"a{number}", int(state), int(number >= ended))
        )


def settle(db: sqlite3.Connection, word: str, observed: float) -> list[pilots.Ending]:
    db.execute("UPDATE site SET observed = ? WHERE id = 1", (observed,))
    pilots.settle_pilots(db, 1, {KEY.hex(): Known(word, "", None, "42")}, observed)
    return pilots.endings(db, 1)


def row(db: sqlite3.Connection) -> tuple[Pilot, str | None]:
    state, reason = db.execute("SELECT state, reason FROM pilot").fetchone()
    return Pilot(state), reason


@pytest.mark.parametrize("word", WORDS)
def test_its_job_is_cancelled_after_a_while_whether_it_runs_or_is_to_begin_again(db: sqlite3.Connection, word: str) -> None:
    pilot(db)
    assert settle(db, word, 10) == []
    assert row(db) == (Pilot.DRAINING, None)
    assert settle(db, word, 9 + pilots.HOLLOW) == []
    (ending,) = settle(db, word, 11 + pilots.HOLLOW)
    assert (ending.drain, ending.jobs) == (False, ("42",))
    assert WORDS[word] in str(row(db)[1])
    settle(db, "ended", 80)
    assert row(db)[0] == Pilot.CANCELLED


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("nodes", "ended", "live"), [(1, 0, 1), (1, 1, 1), (2, 1, 0), (1, 0, 0)])
def test_one_that_has_an_agent_or_may_get_one_is_left_alone(db: sqlite3.Connection, word: str, nodes: int, ended: int, live: int) -> None:
    pilot(db, nodes, ended, live)
    for observed in (10, 100, 1000):
        assert settle(db, word, observed) == []
    assert row(db) == (Pilot.RUNNING, None)
    db.execute("DELETE FROM agent")
