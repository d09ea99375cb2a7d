"""What pilots used, by accounting, which may come late, or never."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from icp.ledger import pilots
from icp.model.batch import Known, Submitted
from icp.model.plan import PilotSpec
from icp.states import Pilot
from tests.ledger.build import World

KEY = bytes(range(8))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    world = World(tmp_path)
    with world.ledger.write() as one:
        pilots.make_pilot(one, 1, KEY, PilotSpec(cpus=1, memory=1, gpus=0, walltime=600), 1.0)
        pilots.receipt(one, 1, KEY.hex(), Submitted("42"), 2.0, 2.0)
    yield world.db
    world.close()


def settle(db: sqlite3.Connection, known: Known | None, now: float, asked: dict[str, str] | None = None) -> None:
    pilots.settle_pilots(db, 1, {KEY.hex(): known} if known else {}, now, asked=asked or {})


def ended(db: sqlite3.Connection, known: Known) -> None:
    """Said twice: what it printed last may come with the second."""
    settle(db, known, 2.5)
    settle(db, known, 3.0)


def row(db: sqlite3.Connection) -> tuple[int, float | None, int]:
    state, used, asked = db.execute("SELECT state, core_seconds, asked FROM pilot WHERE key = ?", (KEY,)).fetchone()
    return state, used, asked


def test_what_accounting_says_at_the_end_is_kept_and_not_asked_again(db: sqlite3.Connection) -> None:
    assert pilots.left(db, 1) == {}
    ended(db, Known("ended", "FAILED", 1, "42", core_seconds=40.0))
    assert row(db)[1] == 40.0
    assert row(db)[0] not in (Pilot.SUBMITTING, Pilot.RUNNING)
    assert pilots.left(db, 1) == {}


def test_accounting_that_is_late_is_asked_again_but_not_for_ever(db: sqlite3.Connection) -> None:
    ended(db, Known("ended", "", 1, "42"))
    assert row(db)[1] is None
    assert pilots.left(db, 1) == {KEY.hex(): "42"}
    assert pilots.left(db, 1, account=False) == {}
    for now in (4.0, 5.0):
        settle(db, None, now, pilots.left(db, 1))
    settle(db, Known("ended", "", 1, "42", core_seconds=7.5), 6.0, pilots.left(db, 1))
    assert row(db)[1] == 7.5
    assert pilots.left(db, 1) == {}


def test_accounting_that_never_tells_is_given_up(db: sqlite3.Connection) -> None:
    ended(db, Known("ended", "", 1, "42"))
    ticks = 0
    while pilots.left(db, 1):
        settle(db, None, 4.0 + ticks, pilots.left(db, 1))
        ticks += 1
        assert ticks < 20
    assert ticks == 5
    assert row(db)[1] is None


def test_batch_system_that_cannot_be_asked_costs_no_try(db: sqlite3.Connection) -> None:
    ended(db, Known("ended", "", 1, "42"))
    pilots.settle_pilots(db, 1, None, 4.0, asked=pilots.left(db, 1))
    assert row(db)[2] == 0
