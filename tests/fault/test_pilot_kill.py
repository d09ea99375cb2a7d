"""Whatever of a pilot is killed: nothing is left on the node, and what is known of it is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilot_site import Site, attempt, shell, sites, until

from icp.pilot import framing, node, spool

pytestmark = pytest.mark.long

DAEMONS = "setsid sleep 1002 & (setsid sh -c 'sleep 1003 & sleep 1004' &) ; sleep 1001"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)


def running(site: Site) -> tuple[str, dict[str, Any], tuple[int, int]]:
    """A pilot with a task that has daemons: (pilot, attempt, (supervisor, agent))."""
    one = shell(DAEMONS)
    pilot = site.start(site.card(one), idle=1000)
    site.wait_fact("running", a=one["a"])
    return pilot, one, site.pids()


def test_agent_killed(site: Site) -> None:
    pilot, one, (_, agent) = running(site)
    os.kill(agent, signal.SIGKILL)
    site.finish(pilot)
    (died,) = site.of("agent_died")
    assert (died["clean"], died["why"], died["n"]) == (True, "signal 9", 1)
    assert not [fact for fact in site.of("ended") if fact["a"] == one["a"]]
    site.assert_clean()


def test_supervisor_killed(site: Site) -> None:
    pilot, one, (supervisor, _) = running(site)
    os.kill(supervisor, signal.SIGKILL)
    site.wait_fact("stopped")
    site.finish(pilot)
    assert site.result(one)["r"] == "evicted"
    site.assert_clean()


@pytest.mark.parametrize("by", ["exchange", "agent"])
def test_both_killed_and_the_next_on_this_node_cleans_up(site: Site, by: str) -> None:
    pilot, _, (supervisor, agent) = running(site)
    scratch = Path(site.entry()["scratch"])
    for pid in (supervisor, agent):
        os.kill(pid, signal.SIGSTOP)
    for pid in (supervisor, agent):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not node.start_time(agent) and not node.start_time(supervisor), "their end")
    assert scratch.exists()
    assert site.processes()
    if by == "exchange":
        site.tick()
    else:
        other = site.start()
        site.finish(other)
    site.tick()
    assert not scratch.exists()
    (died,) = site.of("agent_died")
    assert died["clean"]
    assert "next on this node" in died["why"]
    site.finish(pilot)
    site.assert_clean()
    site.tick()
    assert len(site.of("agent_died")) == 1


def test_the_whole_batch_job_killed(site: Site) -> None:
    pilot, _, _ = running(site)
    folder = site.root / "pilots" / pilot
    assert site.run("kill", str(folder), "--now").returncode == 0
    site.wait_fact("agent_died")
    site.assert_clean()
    (line,) = site.run("ps", str(site.root / "pilots")).stdout.splitlines()
    assert json.loads(line)["state"] == "ended"


def test_an_agent_that_lost_its_folder_stops_and_writes_nothing(site: Site) -> None:
    one, unbegun = shell(DAEMONS), attempt("true")
    pilot = site.start(
        site.card(one),
        site.card(unbegun, need=site.intern({"any": [[]], "cpus": 2, "disk": 1, "gpus": 0, "memory": 1, "time": 1})),
        idle=1000,
    )
    fact = site.wait_fact("running", a=one["a"])
    ((agent, place, _, (card,), _),) = site.tick().one("agents")
    assert place == "agents"
    reply = site.order(framing.frame("fence", {"agent": agent}))
    assert reply.one("applied")["fence"] == {agent: {"began": [card], "unbegun": []}}
    site.finish(pilot)
    site.assert_clean()
    ((_, place, _, cards, recalled),) = site.tick(fenced=[agent]).one("agents")
    assert (place, cards, recalled) == ("fenced", [card], [])
    assert not site.of("stopped")
    assert not site.of("agent_died")
    assert fact["n"] > 0
    # A rename of the agent that arrives late: the card is recalled, once and for all answers.
    late = framing.frame(
        "card",
        {"name": spool.join_card_name(0, site.need, "fedcba9876543210")},
        json.dumps({"card": "fedcba9876543210", "attempts": [attempt("true")]}).encode(),
    )
    site.order(late)
    name = next(one for one in os.listdir(site.where.inbox) if one.endswith("fedcba9876543210"))
    (Path(site.where.inbox) / name).rename(Path(site.where.fenced) / agent / "claimed" / name)
    for _ in range(2):
        ((_, _, _, cards, recalled),) = site.tick(fenced=[agent]).one("agents")
        assert (cards, recalled) == ([card], ["fedcba9876543210"])
    assert os.listdir(site.where.recalled) == ["fedcba9876543210"]


@pytest.mark.parametrize(
    ("point", "visit", "action"),
    [
        ("agent.renamed", 1, "kill"),
        ("agent.out_renamed", 2, "kill"),
        ("agent.logged", 2, "kill"),
        ("agent.fact_written", 2, "kill"),
        ("agent.fact_written", 2, "torn"),
        ("agent.fact_written", 2, "enospc"),
        ("agent.synced", 2, "kill"),
        ("agent.out_renamed", 1, "enospc"),
    ],
)
def test_faults_of_an_agent(site: Site, point: str, visit: int, action: str) -> None:
    token = site.base / "token"
    token.touch()
    tasks = [shell(f"echo {index}; echo {index} > out; sleep 0.1", out=["out"]) for index in range(4)]
    fault = {"ICP_FAULT": f"{point}:{visit}:{token}:{action}"}
    site.finish(site.start(site.card(*tasks[:2]), site.card(*tasks[2:]), env=fault))
    assert not token.exists(), "the fault did not come"
    died = [] if action == "enospc" else ["signal 9"]
    assert [fact["why"] for fact in site.of("agent_died")] == died
    numbers = [fact["n"] for name, fact in site.facts if name.endswith("/journal")]
    assert numbers == list(range(1, len(numbers) + 1))
    ended = site.of("ended")
    assert len({fact["a"] for fact in ended}) == len(ended)
    if action == "enospc":
        assert sorted(fact["a"] for fact in ended) == sorted(one["a"] for one in tasks)
    for fact in ended:
        (index,) = [index for index, one in enumerate(tasks) if one["a"] == fact["a"]]
        assert fact["r"] == "ok"
        assert site.stored(tasks[index], "out") == f"{index}\n".encode()
    site.assert_clean()


def test_a_folder_of_an_ended_agent_goes_with_its_last_segment(site: Site) -> None:
    one = attempt("true")
    site.finish(site.start(site.card(one)))
    ((agent, _, streams, _, _),) = site.tick().one("agents")
    assert streams == {"journal": [[1, streams["journal"][0][1]]]}
    site.order(framing.frame("ack", {"agent": agent, "stream": "journal", "segment": 1}))
    assert site.tick().one("agents") == []
    assert os.listdir(site.where.agents) == []


def test_the_newest_segment_of_a_living_agent_stays(site: Site) -> None:
    pilot = site.start(idle=1000)
    site.wait_fact("started")
    ((agent, _, _, _, _),) = site.tick().one("agents")
    site.order(framing.frame("ack", {"agent": agent, "stream": "journal", "segment": 7}))
    assert site.tick().one("agents")[0][2]["journal"][0][0] == 1
    site.run("kill", str(site.root / "pilots" / pilot))
    site.finish(pilot)
