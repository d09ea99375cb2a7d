"""Jobs under names of this ledger's that it did not submit: they become pilots that are to end, and nobody else's jobs do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from icp.ledger import pilots
from icp.ledger.check import check
from icp.model.batch import Known
from icp.model.plan import PilotSpec
from icp.states import Pilot
from tests.ledger.build import World

KEY = "00c0ffee00c0ffee"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path, site_names=("a", "b"))
    yield one
    assert check(one.ledger) == []
    one.close()


def settle(world: World, site: int = 1, **known: Known) -> list[pilots.Ending]:
    with world.ledger.write() as db:
        pilots.settle_pilots(db, site, {KEY if name == "k" else name: one for name, one in known.items()}, world.now)
        return pilots.endings(db, site)


def row(db: sqlite3.Connection) -> tuple[Pilot, str, str]:
    state, batch, reason = db.execute("SELECT state, batch, reason FROM pilot WHERE key = ?", (bytes.fromhex(KEY),)).fetchone()
    return Pilot(state), batch, reason


def test_job_that_nobody_knows_is_cancelled_at_the_second_sight_and_settled(world: World) -> None:
    assert settle(world, k=Known("running", "", None, "42")) == []
    assert row(world.db) == (Pilot.RUNNING, "42", pilots.STRANGER)
    (ending,) = settle(world, k=Known("running", "", None, "42"))
    assert (ending.pilot, ending.drain, ending.jobs) == (KEY, False, ("42",))
    # said once
    assert settle(world, k=Known("running", "", None, "42")) == []
    settle(world)
    settle(world)
    assert row(world.db)[0] == Pilot.CANCELLED
    assert row(world.db)[2] == pilots.STRANGER
    assert world.db.execute("SELECT sum(young), count(paused) FROM site").fetchone() == (0, 0)


def test_agent_of_it_is_told_to_finish_what_it_does(world: World) -> None:
    settle(world, k=Known("running", "", None, "42"))
    world.db.execute("INSERT INTO agent (name, pilot, site) VALUES ('x', (SELECT id FROM pilot), 1)")
    (ending,) = settle(world, k=Known("running", "", None, "42"))
    assert ending.drain
    world.db.execute("DELETE FROM agent")


@pytest.mark.parametrize("known", [Known("ended", "", 0, "42"), Known("unknown", "", None, "42"), Known("running")])
def test_what_does_not_live_makes_no_row(world: World, known: Known) -> None:
    settle(world, k=known)
    assert world.db.execute("SELECT count(*) FROM pilot").fetchone() == (0,)


def test_pilot_of_another_site_at_the_same_batch_system_is_known(world: World) -> None:
    with world.ledger.write() as db:
        pilots.make_pilot(db, 2, bytes.fromhex(KEY), PilotSpec(cpus=1, memory=1), 1.0)
    assert settle(world, k=Known("running", "", None, "42")) == []
    assert settle(world, k=Known("running", "", None, "42")) == []
    assert world.db.execute("SELECT site FROM pilot").fetchall() == [(2,)]


def test_name_that_is_none_of_a_pilot_is_left_alone(world: World) -> None:
    settle(world, check=Known("running", "", None, "42"))
    assert world.db.execute("SELECT count(*) FROM pilot").fetchone() == (0,)
