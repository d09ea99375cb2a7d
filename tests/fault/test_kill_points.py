"""The main job while exchange, engine and agents are killed at named points: same bytes, each task ok once, nothing left."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest
from main_job import Home, Result, until

from icp.ledger.control import Control
from icp.ledger.definitions import Definitions

pytestmark = pytest.mark.long


def hold(home: Home) -> bool:
    """Stop the agent; True if something is still at work with it when the engine has looked again, otherwise it goes on."""
    agents = [agent for _, agent in home.agents()]
    home.kill(agents, signal.SIGSTOP)
    for _ in range(2):
        before = home.ask("SELECT value FROM meta WHERE key = 'last_tick'")
        until(lambda last=before: home.ask("SELECT value FROM meta WHERE key = 'last_tick'") != last, "a tick")
    if agents and home.ask("SELECT 1 FROM attempt WHERE state IN (1, 2, 3)"):
        return True
    home.kill(agents, signal.SIGCONT)
    return False


STEPS = ["tmp", "renamed", "applied", "owner", "removed"]


def test_undisturbed_twice(home: Home, golden: Result) -> None:
    home.run()
    assert home.kills == 0
    home.assert_result(golden)


def test_exchange_killed_while_it_brings_the_first_orders(home: Home, golden: Result) -> None:
    """One exchange after the other dies, each at the next of its steps; the same orders come again each time."""
    kinds = ["need:1", "blob:1", "card:1", "card:2", "submit:1"]
    points = ["exchange.locked:1", *(f"exchange.{step}:1" for step in STEPS), *(f"exchange.moved:{kind}" for kind in kinds)]
    home.run(**home.faults(*points))
    assert home.unspent() == []
    home.assert_result(golden)


def test_exchange_killed_while_it_brings_later_orders(make_home: Callable[..., Home], golden: Result) -> None:
    """The same once results are coming home: outputs dropped at the site, journals acknowledged."""
    home = make_home(policy="retention = 0")
    home.submit()
    points = ["exchange.locked:1", *(f"exchange.{step}:1" for step in STEPS)]
    points += [f"exchange.moved:{kind}" for kind in ("card:1", "drop:1", "drop:2", "ack:1")]
    faults = home.faults(*points)
    hidden = home.base / "tokens"
    hidden.rename(home.base / "later")
    engine = home.start(**faults)
    until(lambda: home.ask("SELECT 1 FROM task WHERE accepted IS NOT NULL"), "a first result")
    (home.base / "later").rename(hidden)
    assert home.finish(engine) == 0, home.said
    assert home.unspent() == []
    home.run()
    assert list((home.spool / "agents").iterdir()) == []
    home.assert_result(golden)


def test_exchange_killed_while_it_brings_what_people_ordered(home: Home, golden: Result) -> None:
    """Cards recalled, attempts cancelled, a pilot drained, an agent fenced: each order's exchange dies right behind it."""
    engine = home.start(ICP_TEST_NAP="0.3", **home.faults(*(f"exchange.moved:{kind}:1" for kind in ("recall", "cancel", "drain", "fence"))))
    ledger = home.ledger()

    def control() -> Control:
        return Control(ledger, Definitions(ledger.db), 1, time.time())

    until(lambda: home.ask("SELECT 1 FROM task WHERE accepted IS NOT NULL"), "a first result")
    ((_, agent),) = home.agents()
    home.kill([agent], signal.SIGSTOP)
    until(lambda: home.ask("SELECT 1 FROM attempt WHERE state = 0"), "cards that wait")
    control().suspend()
    until(lambda: not home.ask("SELECT 1 FROM attempt WHERE state = 0"), "all cards recalled")
    home.kill([agent], signal.SIGCONT)
    control().resume()
    until(lambda: hold(home), "something at work with an agent that stands still")
    control().reset_jobs(0, 3)
    until(lambda: "exchange.moved.cancel.1" not in home.unspent(), "the cancel that dies on its way")
    home.kill([agent for _, agent in home.agents()], signal.SIGCONT)
    until(lambda: not home.ask("SELECT 1 FROM attempt WHERE void = 1 AND live = 1"), "the end of what was reset")
    until(home.agents, "an agent")
    with ledger.write() as db:
        db.execute("UPDATE pilot SET stopping = 1 WHERE live = 1")
    until(lambda: home.ask("SELECT 1 FROM pilot WHERE stopping = 2 AND live = 0"), "the pilot's end")
    until(lambda: home.agents() and home.tasks(), "the next agent at work")
    (pilot,) = home.ask("SELECT lower(hex(key)) FROM pilot WHERE live = 1")[0]
    # it stands still, so that it cannot come to its end before its batch job's end is believed
    standing = [agent for _, agent in home.agents()]
    home.kill(standing, signal.SIGSTOP)
    home.kill([json.loads((home.spool / "pilots" / pilot / "pid").read_text())["pid"]])
    until(lambda: "exchange.moved.fence.1" not in home.unspent(), "the fence that dies on its way")
    home.kill(standing, signal.SIGCONT)
    ledger.close()
    assert home.finish(engine) == 0, home.said
    assert home.unspent() == []
    assert home.ask("SELECT count(*) FROM agent WHERE fence = 2") == [(1,)]
    home.assert_result(golden)


ENGINE = ["intent", "outbox", "sent", "answered", "ingested", "home_renamed"]


def test_engine_killed_at_each_point_of_its_first_ticks(home: Home, golden: Result) -> None:
    points = [f"engine.{point}:1" for point in ENGINE]
    home.run_until_spent(**home.faults(*points))
    assert home.unspent() == []
    assert home.kills == len(points)
    home.assert_result(golden)


def test_engine_killed_at_each_point_of_later_ticks(home: Home, golden: Result) -> None:
    points = [*(f"engine.{point}:2" for point in ENGINE), "engine.intent:3", "engine.sent:3", "engine.ingested:3"]
    home.run_until_spent(ICP_TEST_NAP="0.3", **home.faults(*points))
    assert home.unspent() == []
    assert home.kills == len(points)
    home.assert_result(golden)


@pytest.mark.parametrize(
    "points",
    [
        ["renamed:1", "renamed:3", "out_renamed:1", "out_renamed:4", "logged:1", "logged:3"],
        ["fact_written:1", "fact_written:2", "fact_written:3:torn", "synced:1", "synced:2", "fact_written:1:torn"],
        ["fact_written:1:enospc", "fact_written:2:enospc", "fact_written:4:enospc", "out_renamed:1:enospc", "out_renamed:3:enospc", "logged:2:enospc"],
    ],
    ids=["at work", "writing facts", "disk full"],
)
def test_agents_killed_at_each_point(home: Home, golden: Result, points: list[str]) -> None:
    home.run_until_spent(ICP_TEST_NAP="0.1", **home.faults(*(f"agent.{point}" for point in points)))
    assert home.unspent() == []
    died = len([point for point in points if not point.endswith("enospc")])
    assert home.ask("SELECT count(*) FROM agent")[0][0] >= died
    home.assert_result(golden)
