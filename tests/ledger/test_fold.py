"""What one event drags along: tries, back-off, tiers, stop-loss, what voids what, and which files stay."""

import pytest

from icp.ledger.check import check
from icp.ledger.stop_loss import fingerprint
from icp.model.plan import Policy
from icp.states import Attempt, Dataset, Task
from tests.ledger.build import World, task

CHAIN = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path, policy=Policy(backoff=(0, 60, 300)))
    yield one
    assert check(one.ledger) == []
    one.close()


def fail(world, agent, dataset, **more):
    """The next attempt is dealt and fails so; False where none could be dealt."""
    world.now += 4000
    tries = world.deal(dataset)
    if not tries:
        return False
    world.claim(agent, *tries)
    world.ended(agent, *tries, result=more.pop("result", "error"), **more)
    return True


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ({"kind": "payload"}, 3),
        ({"kind": "resource"}, 4),
        ({"kind": "stage"}, 8),
        ({"kind": "software"}, 8),
        ({"kind": "node"}, 8),
        ({"result": "evicted"}, 20),
    ],
)
def test_each_kind_of_failure_has_its_own_limit_and_retry_gives_all_tries_again(world, more, limit):
    dataset = world.submit(1, stop_loss=0)
    world.release(dataset)
    agent = world.agent()
    for _ in range(2):
        for n in range(limit):
            assert world.state(dataset, 0, "a") == Task.WAITING, n
            assert fail(world, agent, dataset, err=f"error {n}", **more)
        assert world.state(dataset, 0, "a") == Task.FAILED and not fail(world, agent, dataset)
        world.control(dataset).retry_jobs(0, 0)


@pytest.mark.parametrize("result", ["returned", "cancelled"])
def test_what_never_began_counts_against_no_limit(world, result):
    dataset = world.submit(1, stop_loss=0)
    world.release(dataset)
    agent = world.agent()
    for _ in range(30):
        assert fail(world, agent, dataset, result=result)
    assert world.state(dataset, 0, "a") == Task.WAITING


def test_kinds_are_counted_apart(world):
    dataset = world.submit(1, stop_loss=0)
    world.release(dataset)
    agent = world.agent()
    for kind in ("payload", "node", "payload", "stage", "node"):
        fail(world, agent, dataset, kind=kind)
    assert world.state(dataset, 0, "a") == Task.WAITING
    fail(world, agent, dataset, kind="payload")
    assert world.state(dataset, 0, "a") == Task.FAILED


def test_an_error_backs_off_longer_each_time_and_an_eviction_does_not(world):
    dataset = world.submit(1, stop_loss=0)
    world.release(dataset)
    agent = world.agent()
    pauses = []
    for result in ("error", "evicted", "error", "error"):
        fail(world, agent, dataset, result=result, kind="node")
        until = world.db.execute("SELECT not_before FROM task").fetchone()[0]
        pauses.append(0 if until is None else round(until - world.now))
    assert pauses == [0, 0, 60, 300]


def test_want_of_a_resource_raises_the_tier_and_asks_for_a_new_need(world):
    dataset = world.submit(1, stop_loss=0)
    world.release(dataset)
    agent = world.agent()
    for tier in (1, 2, 3):
        fail(world, agent, dataset, kind="resource")
        assert world.db.execute("SELECT tier, need FROM task").fetchone() == (tier, 0)


def test_the_same_error_again_and_again_suspends_the_dataset_and_any_other_does_not(world):
    dataset = world.submit(6, stop_loss=4)
    world.release(dataset)
    agent = world.agent()

    def state():
        return Dataset(world.db.execute("SELECT state FROM dataset").fetchone()[0])

    tries = world.deal(dataset)
    world.claim(agent, *tries)
    world.ended(agent, *tries[:3], result="error", err="bad file /tmp/x1/y: code 17")
    world.ended(agent, tries[3], result="error", err="something else")
    world.ended(agent, tries[4], result="ok")
    assert state() == Dataset.PROCESSING
    world.now += 4000
    for number in (3, 444, 5, 6):
        (one, *_) = world.deal(dataset, 1)
        world.claim(agent, one)
        world.ended(agent, one, result="error", err=f"bad file /home/{number}/y: code {number}")
        world.now += 4000
    assert state() == Dataset.PROCESSING, "three digits are another line than one"
    for number in (7, 8):
        (one, *_) = world.deal(dataset, 1)
        world.claim(agent, one)
        world.ended(agent, one, result="error", err=f"bad file /scratch/{number}: code {number}")
        world.now += 4000
    assert state() == Dataset.SUSPENDED
    world.control(dataset).resume()
    assert state() == Dataset.PROCESSING
    assert world.db.execute("SELECT same_errors FROM task_def").fetchone() == (0,)


def test_a_fingerprint_is_the_last_line_without_what_differs_from_try_to_try():
    one = fingerprint("payload", 1, "noise\nno such run 17 in /data/a/b.root (0xdeadbeef12)\n\n")
    assert one == fingerprint("payload", 1, "no such run 42 in /other/c.root (0xcafecafe99)")
    assert one != fingerprint("payload", 2, "no such run 42 in /other/c.root (0xcafecafe99)")
    assert one != fingerprint("node", 1, "no such run 42 in /other/c.root (0xcafecafe99)")
    assert fingerprint("payload", None, "") == fingerprint("payload", None, "\n \n")


def test_the_ok_of_an_attempt_from_before_a_reset_is_never_accepted_even_if_it_was_cancelled_first(world):
    dataset = world.submit(1, *CHAIN)
    world.release(dataset)
    agent = world.agent()
    (old,) = world.deal(dataset)
    world.claim(agent, old)
    world.control(dataset).cancel_jobs(0, 0)
    world.control(dataset).reset_jobs(0, 0)
    assert world.state(dataset, 0, "a") == Task.WAITING
    world.ended(agent, old, stats={"x": 1.0})
    assert world.state(dataset, 0, "a") == Task.WAITING
    assert world.db.execute("SELECT count(*) FROM summary").fetchone() == (0,)


def test_the_late_ok_of_an_attempt_that_was_lost_before_a_reset_is_never_accepted(world):
    dataset = world.submit(1, *CHAIN)
    world.release(dataset)
    agent = world.agent()
    (old,) = world.deal(dataset)
    world.claim(agent, old)
    world.running(agent, old)
    with world.ledger.write():
        fold = world.fold()
        fold.load_keys([bytes.fromhex(old.key)])
        fold.ended(fold.by_key[bytes.fromhex(old.key)], "gone")
        fold.flush()
    world.control(dataset).reset_jobs(0, 0)
    world.ended(agent, old)
    assert Attempt(world.db.execute("SELECT state FROM attempt").fetchone()[0]) == Attempt.OK
    assert world.state(dataset, 0, "a") == Task.WAITING


def test_an_output_that_children_read_goes_when_they_are_done_and_comes_back_with_a_reset(world):
    dataset = world.submit(1, *CHAIN)
    agent = world.run(dataset)
    assert world.db.execute("SELECT name, state FROM file ORDER BY id").fetchall() == [("a.txt", 5), ("b.txt", 3)]
    b = next(one.id for one in world.definitions.graph(dataset).defs.values() if one.name == "b")
    world.control(dataset).reset_jobs(0, 0, b)
    assert world.state(dataset, 0, "a") == Task.WAITING and world.state(dataset, 0, "b") == Task.IDLE
    world.run(dataset, agent)
    assert world.state(dataset, 0, "b") == Task.OK


def test_suspended_tasks_still_accept_their_ok_and_cancelled_ones_do_not(world):
    dataset = world.submit(2)
    world.release(dataset)
    agent = world.agent()
    first, second = world.deal(dataset)
    world.claim(agent, first, second)
    world.running(agent, first, second)
    world.control(dataset).suspend_jobs(0, 0)
    world.control(dataset).cancel_jobs(1, 1)
    world.ended(agent, first, second)
    assert world.state(dataset, 0, "a") == Task.OK and world.state(dataset, 1, "a") == Task.CANCELLED
