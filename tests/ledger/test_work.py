"""What is kept of the work of attempts: each counted once, where and when it was done, and what follows for rates and times to go."""

import pytest

from icp.ledger import views, views_failures, views_work
from icp.ledger.check import check
from icp.states import Attempt
from tests.ledger.build import NOW, World, task


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path, site_names=("near", "far"))
    yield one
    assert check(one.ledger) == []
    one.close()


def ended(world, agent, one, begun, seconds, **how):
    """``one`` ran from ``begun`` on for ``seconds``."""
    phases = [begun, begun, begun + seconds, begun + seconds]
    fact = {"f": "ended", "a": one.key, "k": one.passkey, "r": "ok", "cpu": seconds / 2, "rss": 1000, "exit": 0, "ph": phases, "out": [], **how}
    agent.note(fact)
    agent.cards.remove(one.card)
    world.answer(agent)


def progress(world, dataset):
    with world.ledger.write():
        world.ledger.set_meta("last_tick", world.now)
    return views_work.progress(world.db, views.one_dataset(world.db, dataset), world.now)


def test_an_attempt_holds_its_cpu_from_its_begin_to_its_end_and_nowhere_else(world):
    dataset = world.submit(2, task("a"))
    agent = world.agent("near")
    world.release(dataset)
    first, second = world.deal(dataset, site="near")
    world.claim(agent, first, second)
    start = NOW - NOW % 60 + 600
    world.now = start + 300
    ended(world, agent, first, start + 30, 210)  # half of minute 0, all of 1 and 2, all of 3: to its end
    ended(world, agent, second, start + 70, 5)
    found = {round((one.at - start) / 60): one.busy for one in views_work.course(world.db, dataset=dataset, now=world.now)}
    assert found == {0: 0.5, 1: pytest.approx(1 + 5 / 60), 2: 1.0, 3: 1.0, 4: 0.0}
    assert views_work.course(world.db, dataset=dataset, now=world.now)[-1].ok == 2
    assert views_work.course(world.db, site="far", now=world.now) == []
    assert progress(world, dataset).core_hours == pytest.approx(215 / 3600)


def test_fewer_stretches_hold_the_same_cpu_time(world):
    dataset = world.submit(20, task("a"))
    agent = world.agent("near")
    world.release(dataset)
    tries = world.deal(dataset, site="near")
    world.claim(agent, *tries)
    world.now += 7200
    for at, one in enumerate(tries):
        ended(world, agent, one, NOW + 300 * at, 100 + 37 * at)
    for stretches in (1, 7, 60, 1000):
        found = views_work.course(world.db, dataset=dataset, now=world.now, stretches=stretches)
        assert len(found) <= stretches
        assert sum(one.busy * one.seconds for one in found) == pytest.approx(sum(100 + 37 * at for at in range(20)))
        assert found[-1].ok == 20


def test_what_runs_now_is_in_use_too(world):
    dataset = world.submit(2, task("a"))
    agent = world.agent("near")
    world.release(dataset)
    tries = world.deal(dataset, site="near")
    world.claim(agent, *tries)
    world.running(agent, *tries)
    for _ in range(20):
        world.answer(agent, seconds=30)
    ended(world, agent, tries[0], world.now - 60, 50)
    with world.ledger.write():
        world.ledger.set_meta("last_tick", world.now)
    assert views_work.course(world.db, dataset=dataset, now=world.now)[2].busy == pytest.approx(1.0, abs=0.1)


def test_what_failed_is_wasted_and_what_is_reset_too(world):
    dataset = world.submit(2, task("a", outputs=["a.txt"]))
    agent = world.agent("near")
    world.release(dataset)
    first, second = world.deal(dataset, site="near")
    world.claim(agent, first, second)
    world.ended(agent, first)
    world.ended(agent, second, result="error")
    (row,) = views_work.work(world.db, dataset)
    assert (row.task, row.site, row.ok, row.others, row.bytes) == ("a", "near", 1, 1, len("a.txt of a in job 0\n"))
    assert (row.good, row.wasted, row.cpu) == pytest.approx((2.2, 2.2, 1.5))
    assert progress(world, dataset).efficiency == pytest.approx(0.5)
    world.control(dataset).reset_jobs(0, 0)
    (row,) = views_work.work(world.db, dataset)
    assert (row.ok, row.others, row.good, row.bytes) == (0, 2, 0, 0)
    assert row.wasted == pytest.approx(4.4)
    assert views_work.course(world.db, dataset=dataset, now=world.now)[-1].ok == 0


def test_an_ok_that_comes_too_late_is_work_that_does_not_count(world):
    dataset = world.submit(1, task("a"))
    near, far = world.agent("near"), world.agent("far")
    world.release(dataset)
    (first,) = world.deal(dataset, site="near")
    world.claim(near, first)
    world.control(dataset).reset_jobs(0, 0)
    (second,) = world.deal(dataset, site="far")
    world.claim(far, second)
    world.ended(far, second)
    world.ended(near, first)
    assert {row.site: (row.ok, row.others) for row in views_work.work(world.db, dataset)} == {"near": (0, 1), "far": (1, 0)}


@pytest.mark.parametrize("begun", [-1e300, 0.0, 1e300])
def test_a_site_with_a_mad_clock_spoils_no_count(world, begun):
    dataset = world.submit(1, task("a"))
    agent = world.agent("near")
    world.release(dataset)
    (one,) = world.deal(dataset, site="near")
    world.claim(agent, one)
    ended(world, agent, one, 0.0, 5, ph=[begun, begun, begun, begun])
    assert views.one_dataset(world.db, dataset).ok == 1
    assert views_work.course(world.db, dataset=dataset, now=world.now)[-1].ok == 1


def test_rate_and_time_to_go_are_of_the_last_minutes(world):
    dataset = world.submit(400, task("a"))
    assert progress(world, dataset).rate is None
    agent = world.agent("near")
    world.release(dataset)
    start = world.now
    for minute in range(60):  # 1 a minute at first, then 10
        tries = world.deal(dataset, 1 if minute < 40 else 10, site="near")
        world.claim(agent, *tries)
        world.now = start + 60 * minute + 50
        for one in tries:
            ended(world, agent, one, world.now - 5, 4)
    found = progress(world, dataset)
    assert found.rate * 60 == pytest.approx(10, rel=0.1)
    assert found.left == 400 - 40 - 200
    assert found.to_go == pytest.approx(960, rel=0.1)
    assert found.soonest < found.to_go < found.latest
    assert found.latest < 2 * found.to_go


def test_failures_are_told_once_for_each_fingerprint_with_where_they_were(world):
    dataset = world.submit(6, task("a", max_tries=1))
    world.release(dataset)
    for site, count, err in (("near", 3, "bad file 17"), ("far", 2, "bad file 42"), ("far", 1, "no such thing")):
        agent = world.agent(site)
        tries = world.deal(dataset, count, site=site)
        world.claim(agent, *tries)
        world.ended(agent, *tries, result="error", err=err)
    first, second = views_failures.failures(world.db, dataset)
    assert (first.n, first.jobs, first.sites, first.kind, first.exit) == (5, 5, {"near": 3, "far": 2}, "payload", 1)
    assert (second.n, second.text, second.hosts) == (1, "no such thing", {"node-1": 1})


def test_an_attempt_that_ended_is_not_measured_anew(world):
    """An agent that says it twice, the first time without what it measured, changes nothing that is counted."""
    dataset = world.submit(1, task("a"))
    agent = world.agent("near")
    world.release(dataset)
    (one,) = world.deal(dataset, site="near")
    world.claim(agent, one)
    ended(world, agent, one, NOW, 60, r="error", ph=None, kind="payload", err="boom")
    agent.cards.append(one.card)
    ended(world, agent, one, NOW, 60, cpu=30)
    assert world.db.execute("SELECT begun, cpu, state FROM attempt").fetchone() == (None, 30_000, Attempt.ERROR)
    assert check(world.ledger) == []
