"""What `icp ledger check` finds: nothing after any ordinary history, and each thing that is broken by hand."""

import itertools

import pytest

from icp.ledger.check import check
from icp.states import Task
from tests.ledger.build import World, task

CHAIN = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))
FINAL = (*CHAIN, task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True))
GROUPED = (*CHAIN, task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True, group_by="$eval($args(job) // 2)"))


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def clean(world, *, deep=True):
    assert check(world.ledger, deep=deep) == []


def test_an_empty_ledger_is_clean(world):
    clean(world)


@pytest.mark.parametrize("defs", [CHAIN, FINAL, GROUPED], ids=["chain", "final", "grouped"])
def test_a_dataset_that_runs_to_its_end_is_clean_at_every_step(world, defs):
    dataset = world.submit(5, *defs)
    clean(world)
    agent = world.agent()
    world.release(dataset, 3)
    clean(world)
    tries = world.deal(dataset)
    clean(world)
    world.claim(agent, *tries)
    clean(world)
    world.running(agent, *tries)
    world.ended(agent, *tries, stats={"muons": 3.5, "x": -1})
    clean(world)
    world.run(dataset, agent, stats={"muons": 1e300, "y": 0.1})
    clean(world)
    assert world.db.execute("SELECT state FROM dataset").fetchone()[0] == 2


@pytest.mark.parametrize("defs", [CHAIN, FINAL, GROUPED], ids=["chain", "final", "grouped"])
@pytest.mark.parametrize("command", ["suspend_jobs", "cancel_jobs", "reset_jobs", "retry_jobs", "resume_jobs"])
@pytest.mark.parametrize("part", [(0, 5), (1, 1), (2, 4)])
def test_commands_on_a_dataset_half_done_and_what_comes_after_are_clean(world, defs, command, part):
    dataset = world.submit(6, *defs)
    agent = world.agent()
    world.release(dataset, 3)
    first, second, third = world.deal(dataset)
    world.claim(agent, first, second)
    world.ended(agent, first)
    world.ended(agent, second, result="error")
    getattr(world.control(dataset), command)(*part)
    clean(world)
    world.answer(applied={"serial": None})
    clean(world)
    world.run(dataset, agent)
    world.control(dataset).resume()
    world.run(dataset, agent)
    clean(world)
    del third


@pytest.mark.parametrize("defs", [CHAIN, FINAL, GROUPED], ids=["chain", "final", "grouped"])
@pytest.mark.parametrize("commands", list(itertools.permutations(["cancel_jobs", "reset_jobs", "suspend_jobs"])), ids="-".join)
@pytest.mark.parametrize("released", [0, 3, 6])
def test_commands_after_each_other_are_clean_and_a_reset_dataset_still_ends(world, defs, commands, released):
    dataset = world.submit(6, *defs)
    agent = world.agent()
    world.release(dataset, released) if released else None
    for command in commands:
        getattr(world.control(dataset), command)(1, 4)
        clean(world)
        world.run(dataset, agent)
        clean(world)
    world.control(dataset).resume_jobs(0, 5)
    clean(world)
    world.control(dataset).reset_jobs(0, 5)
    clean(world)
    world.run(dataset, agent)
    clean(world)
    assert world.db.execute("SELECT state FROM dataset").fetchone()[0] == 2
    assert world.db.execute("SELECT count(*) FROM task WHERE state <> 4").fetchone()[0] == 0


def test_a_reset_of_one_task_of_complete_jobs_runs_what_it_needs_again(world):
    dataset = world.submit(4, *FINAL)
    agent = world.run(dataset)
    graph = world.definitions.graph(dataset)
    world.control(dataset).reset_jobs(1, 2, graph.by_name("b").id)
    clean(world)
    assert world.state(dataset, 1, "b") in (Task.IDLE, Task.WAITING)
    assert world.state(dataset, -1, "sum") == Task.IDLE
    world.run(dataset, agent)
    clean(world)
    assert world.state(dataset, -1, "sum") == Task.OK


def test_cancelling_everything_ends_the_dataset_and_its_attempts(world):
    dataset = world.submit(4, *FINAL)
    agent = world.agent()
    world.release(dataset, 2)
    tries = world.deal(dataset)
    world.claim(agent, tries[0])
    world.control(dataset).cancel()
    clean(world)
    world.ended(agent, tries[0], result="cancelled")
    clean(world)
    assert {row[0] for row in world.db.execute("SELECT state FROM task").fetchall()} == {Task.CANCELLED}


def test_deletion_is_clean(world):
    dataset = world.submit(2)
    world.run(dataset)
    world.control(dataset).delete()
    clean(world)


def test_a_lost_output_runs_again_and_is_clean(world):
    from icp.ledger import files

    dataset = world.submit(2, *FINAL)
    agent = world.agent()
    world.release(dataset)
    tries = world.deal(dataset)
    world.claim(agent, *tries)
    world.ended(agent, *tries, stats={"s": 1})
    (one, *_) = (row for row in world.deal(dataset))
    world.claim(agent, one)
    world.ended(agent, one, stats={"s": 2})
    with world.ledger.write():
        wanted = files.coming(world.db, 1, 10)
        for _ in range(2):
            fold = world.fold()
            lost = files.missing(fold, wanted[0])
            fold.flush()
    assert lost
    clean(world)
    world.run(dataset, agent)
    clean(world)


BROKEN = {
    "UPDATE task SET waiting_on = 2 WHERE job = 1 AND waiting_on = 1": "waits on 2 parents",
    "UPDATE dataset_tally SET n = n + 1 WHERE state = 4": "dataset_tally says",
    "UPDATE live_class SET n = n + 1 WHERE state = 1": "live_class says",
    "UPDATE tally SET n = n - 1 WHERE state = 4": "tally says",
    "UPDATE final_left SET left = left - 1": "final task",
    "UPDATE final_left SET members = members - 1": "final task",
    "UPDATE final_left SET oks = oks + 1": "final task",
    "UPDATE summary SET sum = sum * 1.0001": "statistic",
    "UPDATE summary SET n = n + 1": "statistic",
    "DELETE FROM summary": "statistic",
    "UPDATE dataset SET coming = coming + 1": "coming home",
    "UPDATE attempt SET void = 1 WHERE state = 5": "accepted attempt",
    "UPDATE attempt SET task = 999 WHERE live = 1": "does not exist",
    "UPDATE attempt SET live = 0, state = 6 WHERE live = 1": "without a live attempt",
    "DELETE FROM error": "of which there is no row",
    "UPDATE file SET kept = 1 - kept": "is kept by its row",
    "DELETE FROM replica": "no site holds it",
    "UPDATE dataset SET released = 6": "its mark 6",
    "DELETE FROM task WHERE job = 2 AND state = 0": "have not one row for each",
    "INSERT INTO range (dataset, first, last, action) VALUES (1, 0, 0, 'cancel')": "some of them are rows",
    "UPDATE pilot SET live = 0": "pilot",
    "UPDATE task SET site = 0 WHERE state = 4": "says site 0",
}


@pytest.mark.parametrize("sql", BROKEN)
def test_what_is_broken_by_hand_is_found_and_named(world, sql):
    dataset = world.submit(6, *FINAL)
    agent = world.agent()
    world.release(dataset, 4)
    tries = world.deal(dataset, 3)
    world.claim(agent, *tries)
    world.ended(agent, tries[0], stats={"muons": 2.0})
    world.ended(agent, tries[1], result="error")
    clean(world)
    world.db.execute(sql)
    assert any(BROKEN[sql] in one for one in check(world.ledger)), check(world.ledger)


def test_files_at_home_are_looked_for_and_read_when_asked(world, tmp_path):
    dataset = world.submit(3)
    world.run(dataset)
    first, second, third = sorted((tmp_path / "outputs").rglob("a.txt"))
    first.unlink()
    second.write_bytes(b"short")
    data = third.read_bytes()
    third.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    said = check(world.ledger)
    assert len(said) == 2
    assert str(first) in said[0]
    assert "with 5 bytes instead of" in said[1]
    assert len(check(world.ledger, deep=True)) == 3


def test_many_violations_of_one_kind_are_counted_not_listed(world):
    dataset = world.submit(40)
    world.release(dataset)
    world.db.execute("UPDATE task SET state = 2")
    said = [one for one in check(world.ledger) if "without a live attempt" in one]
    assert len(said) == 20
    assert "and 20 more like the last one" in check(world.ledger)


def test_a_final_task_whose_jobs_are_all_cancelled_at_last_is_cancelled(world):
    dataset = world.submit(2, *FINAL)
    world.run(dataset)
    world.control(dataset).reset_jobs(0, 1)
    assert world.state(dataset, -1, "sum") == Task.IDLE
    world.control(dataset).cancel_jobs(0, 1)
    clean(world)
    assert world.state(dataset, -1, "sum") == Task.CANCELLED


def test_what_waits_for_a_cancelled_task_is_cancelled_with_it_and_comes_back_with_it(world):
    dataset = world.submit(2, *FINAL)
    agent = world.agent()
    world.release(dataset)
    graph = world.definitions.graph(dataset)
    world.control(dataset).cancel_jobs(0, 0, graph.by_name("a").id)
    clean(world)
    assert world.state(dataset, 0, "b") == Task.CANCELLED
    world.run(dataset, agent)
    assert world.db.execute("SELECT state FROM dataset").fetchone()[0] == 2
    world.control(dataset).reset_jobs(0, 0, graph.by_name("b").id)
    clean(world)
    assert (world.state(dataset, 0, "a"), world.state(dataset, 0, "b")) == (Task.WAITING, Task.IDLE)
    world.run(dataset, agent)
    clean(world)
    assert world.state(dataset, -1, "sum") == Task.OK
