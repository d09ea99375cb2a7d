"""The main job over a bad line: answers lost, cut at any byte, late; orders that arrive twice, or long after they were answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from main_job import PATIENCE, Home, Result

from icp.backends.base import Outcome, Unknown
from icp.backends.base import Result as Ran
from icp.backends.spool_client import Hello, Query, SpoolClient, Talk
from icp.backends.transport import LocalTransport
from icp.config import Site
from icp.engine import Engine
from icp.engine.loop import engine_lock
from icp.errors import Refused
from icp.ledger.db import Ledger
from icp.model.exchange import Answer
from icp.states import Dataset

pytestmark = pytest.mark.long

Exchange = Callable[[Site, Hello, Query], Answer | Unknown]
Line = Callable[[int, Engine, Exchange], Exchange]


@pytest.fixture
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home as this process's own: its engine runs here."""
    for name in ("ICP_HOME", "ICP_NODE_DIR", "TMPDIR", "ICP_TEST_MARK"):
        monkeypatch.setenv(name, home.env[name])
    return home


def complete(ledger: Ledger) -> bool:
    return not ledger.db.execute("SELECT 1 FROM dataset WHERE state <> ?", (int(Dataset.COMPLETE),)).fetchone()


class Driven:
    """An engine in this process, whose n-th conversation goes over ``line``."""

    def __init__(self, home: Home) -> None:
        self.ledger = home.ledger()
        self.ledger.take_lease(time.time())
        self.engine = Engine(self.ledger, home.config())

        def honest(site: Site, hello: Hello, query: Query) -> Answer | Unknown:
            return SpoolClient(LocalTransport(site.env)).exchange([Talk(self.engine.sites[site.name].spool, hello, query)])[0]

        self.honest: Exchange = honest
        self.n = 0

    def through(self, line: Callable[[int, Site, Hello, Query], Answer | Unknown]) -> None:
        """Tick until all is complete and nothing is left at the site."""

        def spoilt(site: Site, hello: Hello, query: Query) -> Answer | Unknown:
            self.n += 1
            return line(self.n, site, hello, query)

        self.engine.lines.exchanger = spoilt
        deadline = time.monotonic() + PATIENCE
        while self.engine.tick().working or not complete(self.ledger):
            assert time.monotonic() < deadline, "the dataset did not come to its end"
            time.sleep(0.02)
        self.ledger.close()


def test_answers_dropped(here: Home, golden: Result) -> None:
    """Of three conversations one is heard, one is answered in vain, and one never reaches the site."""
    driven = Driven(here)

    def line(n: int, site: Site, hello: Hello, query: Query) -> Answer | Unknown:
        if n % 3 == 0:
            return Unknown("no route to host")
        answer = driven.honest(site, hello, query)
        return answer if n % 3 == 1 else Unknown("connection reset")

    driven.through(line)
    here.assert_result(golden)


def test_orders_sent_twice_and_old_ones_again(here: Home, golden: Result) -> None:
    """Every conversation takes place twice, and that before it arrives once more behind it."""
    driven = Driven(here)
    before: list[tuple[Site, Hello, Query]] = []
    old: list[str | None] = []

    def line(n: int, site: Site, hello: Hello, query: Query) -> Answer | Unknown:
        first = driven.honest(site, hello, query)
        second = driven.honest(site, hello, query)
        for one in before:
            late = driven.honest(*one)
            if isinstance(late, Answer) and one[1].serial < hello.serial:
                old.append(late.refused)
        before[:] = [(site, hello, query)]
        return first if n % 2 else second

    driven.through(line)
    assert set(old) == {"behind"}
    here.assert_result(golden)


class Cutting(LocalTransport):
    """A connection that breaks off within the answer, each time somewhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Outcome:
        done = super().run(argv, stdin, timeout)
        self.n += 1
        if self.n % 2:
            return done
        assert isinstance(done, Ran)
        return Unknown("connection reset", done.out[: len(done.out) * (self.n * 37 % 101) // 101])


def test_answers_cut_in_the_middle_of_a_byte_stream(here: Home, golden: Result) -> None:
    driven = Driven(here)
    spool = driven.engine.sites["local"].spool
    client = SpoolClient(Cutting())
    driven.through(lambda n, site, hello, query: client.exchange([Talk(spool, hello, query)])[0])
    here.assert_result(golden)


def test_two_engines_at_once(home: Home, golden: Result) -> None:
    """The second one leaves with a sentence and exit code 4, and disturbs nothing."""
    first = home.start(ICP_TEST_NAP="0.1")
    while not home.ask("SELECT 1 FROM meta WHERE key = 'engine'"):
        time.sleep(0.01)
    second = home.start()
    assert home.finish(second) == 4
    assert f"another engine runs already (pid {first.pid} on " in home.said
    assert home.finish(first) == 0, home.said
    home.assert_result(golden)


def test_an_engine_that_slept_while_another_took_over_cannot_write(here: Home, golden: Result, tmp_path: Path) -> None:
    """Its lock file is gone with the host that held it; the term of the lease in the ledger keeps it out."""
    driven = Driven(here)
    while not driven.engine.tick().accepted:
        time.sleep(0.02)
    other = here.ledger()
    with engine_lock(here.config()):
        other.take_lease(time.time())
    other.close()
    with pytest.raises(Refused, match="another engine took over this ledger while this one slept"):
        driven.engine.tick()
    before = here.ask("SELECT (SELECT count(*) FROM attempt), (SELECT max(serial) FROM outbox), (SELECT value FROM meta WHERE key = 'last_tick')")
    with pytest.raises(Refused, match="another engine took over"):
        driven.engine.tick()
    assert here.ask("SELECT (SELECT count(*) FROM attempt), (SELECT max(serial) FROM outbox), (SELECT value FROM meta WHERE key = 'last_tick')") == before
    driven.ledger.close()
    here.run()
    here.assert_result(golden)
