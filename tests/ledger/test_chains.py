"""Chains of datasets in the ledger: each output is given once, what is broken by hand is found, and looking for news costs nothing."""

import json
import sqlite3
from dataclasses import replace

import pytest

from icp.engine.chaining import Followers
from icp.engine.rendering import Rendering
from icp.errors import IcpError
from icp.ledger import chaining, datasets, following
from icp.ledger.check import check
from icp.ledger.submit import record
from icp.model.chains import columns
from icp.model.definition import JobSource
from tests.ledger.build import NOW, World, steering, task

MAKE = task("make", outputs=["a.txt"])


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def follow(world, *, name="child", group=None, group_by="", finals=()):
    """A dataset that follows dataset 1."""
    grouped = group is not None or bool(group_by)
    jobs = JobSource(
        "rows", 0, columns=columns(grouped=grouped, keyed=bool(group_by)), source="dataset:parent/make:a.txt", group=group, group_by=group_by, follow=True
    )
    described = replace(steering(1, task("read", outputs=["b.txt"]), *finals, name=name), jobs=jobs)
    with world.ledger.write():
        return record(world.ledger, described, uuid=name, seed=1, directory="/", outputs=str(world.folder / name), pack=None, now=NOW)


def tick(world):
    followers = Followers(world.ledger, world.definitions, Rendering(world.db, world.definitions))
    while followers.tick(NOW):
        pass


def jobs(world, dataset):
    """The jobs of the parent that each job is made from."""
    rows = world.db.execute("SELECT row FROM job_list WHERE dataset = ? ORDER BY job", (dataset,)).fetchall()
    return [json.loads(row[0])[2] for row in rows]


@pytest.fixture
def pair(world):
    """A parent of eight jobs, of which five are done and home; a child by threes, and one by value."""
    parent = world.submit(8, MAKE, name="parent")
    child, keyed = follow(world, group=3), follow(world, name="keyed", group_by="$eval($args(job) % 2)")
    agent = world.agent()
    world.release(parent, 5)
    tries = world.deal(parent)
    world.claim(agent, *tries)
    world.running(agent, *tries)
    world.ended(agent, *tries)
    world.home()
    tick(world)
    return parent, child, keyed, agent


def test_groups_close_when_they_are_full_and_the_rest_when_the_parent_is_complete(world, pair):
    parent, child, keyed, agent = pair
    assert jobs(world, child) == [[0, 1, 2]] and jobs(world, keyed) == [] and check(world.ledger) == []
    world.run(parent, agent)
    tick(world)
    assert jobs(world, child) == [[0, 1, 2], [3, 4, 5], [6, 7]] and jobs(world, keyed) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert following.view(world.db, child).open is False and check(world.ledger) == []


def test_an_output_is_given_once_or_the_transaction_fails(world, pair):
    *_, child, _, _ = pair
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        world.db.execute(
            "INSERT INTO source (dataset, job, file, task, part, key) SELECT dataset, 0, file, task, part, key FROM source WHERE dataset = ?", (child,)
        )


BROKEN = [
    ("UPDATE source SET file = file + 1 WHERE id = (SELECT min(id) FROM source)", "which did not make it"),
    ("DELETE FROM job_list WHERE dataset = 2", "0 have arguments"),
    ("UPDATE source SET job = 7 WHERE dataset = 2 AND job = 0", "is made from a file, and there are 1 jobs"),
    ("UPDATE source SET job = 0 WHERE dataset = 2 AND job IS NULL", "is made from 5 files of 1 groups, and may have 3 of one"),
    ("DELETE FROM follow WHERE dataset = 2", "which follows nothing"),
    ("UPDATE dataset SET state = 2 WHERE id = 3", "files wait for a group, or more outputs of dataset 1 may come"),
    ("DELETE FROM source WHERE dataset = 2 AND job IS NULL", "was given to no job, nor waits to be"),
]


@pytest.mark.parametrize(("breaks", "says"), BROKEN)
def test_what_is_broken_by_hand_is_found(world, pair, breaks, says):
    assert check(world.ledger) == []
    world.db.execute(breaks)
    assert any(says in one for one in check(world.ledger)), check(world.ledger)


def test_looking_for_news_reads_no_table_that_grows_with_the_jobs(world, pair):
    said = []
    world.db.set_trace_callback(said.append)
    assert following.due(world.db) == []
    world.db.set_trace_callback(None)
    assert said
    for query in said:
        plan = [row[3] for row in world.db.execute("EXPLAIN QUERY PLAN " + query).fetchall()]
        assert not [one for one in plan if one.startswith("SCAN") and not one.startswith("SCAN w USING")], plan
        assert any("follow_open" in one for one in plan) and not [one for one in plan if "source" in one.split()[:2]], plan


def test_final_tasks_wait_until_no_more_jobs_can_come(world):
    parent = world.submit(2, MAKE, name="parent")
    child = follow(world, finals=(task("sum", inputs=["read:b.txt[*]"], outputs=["sum.txt"], final=True),))
    agent = world.agent()
    world.release(parent)
    tries = world.deal(parent, 1)
    world.claim(agent, *tries)
    world.running(agent, *tries)
    world.ended(agent, *tries)
    world.home()
    tick(world)
    assert jobs(world, child) == [0]
    world.run(child, agent)
    assert world.db.execute("SELECT made, left FROM final_left WHERE dataset = ?", (child,)).fetchone() == (0, 0)
    world.control(parent).suspend_jobs(1, 1)
    assert not datasets.something_to_do(world.db) and datasets.at_rest(world.db, child), "it waits for a person, with the parent"
    world.control(parent).resume_jobs(1, 1)
    assert datasets.something_to_do(world.db) and not datasets.at_rest(world.db, child)
    world.run(parent, agent)
    tick(world)
    world.run(child, agent)
    assert jobs(world, child) == [0, 1] and check(world.ledger) == []
    assert world.db.execute("SELECT state FROM dataset WHERE id = ?", (child,)).fetchone() == (2,)


def test_what_a_job_was_made_from_is_awaited_while_it_moves_and_told_of_where_it_does_not(world, pair, monkeypatch):
    parent, child, _, agent = pair

    def told():
        with pytest.raises(IcpError) as raised:
            chaining.given(world.db, child, 0)
        return type(raised.value), raised.value.message

    before = chaining.given(world.db, child, 0)
    assert [one.path.read_bytes() for one in before] == [world.bytes[one.key, "a.txt"] for one in list(world.tries.values())[:3]]
    world.control(parent).reset_jobs(1, 1)
    kind, said = told()
    assert kind is chaining.Remade and "is to be made again by job 1 of dataset parent" in said
    world.control(parent).suspend()
    kind, said = told()
    assert kind is IcpError and "`icp resume parent`" in said
    world.control(parent).resume()
    world.control(parent).suspend_jobs(1, 1)
    kind, said = told()
    assert kind is IcpError and "waits for a person: `icp why parent --job 1`" in said
    world.control(parent).resume_jobs(1, 1)
    world.run(parent, agent)
    assert chaining.given(world.db, child, 0) == before and chaining.changed(world.db, child, 0, 0) == [], "the same bytes are as good"

    monkeypatch.setattr(world, "content", lambda one, name: b"other\n")
    world.control(parent).reset_jobs(1, 1)
    world.run(parent, agent)
    assert "with other bytes" in told()[1]
    assert [(one.source_job, one.again) for one in chaining.changed(world.db, child, 0, 0)] == [(1, False)]
    assert [one.sha256 for one in chaining.given(world.db, child, 0, there=False)] == [one.sha256 for one in before], "what it was made from stays known"
    world.control(child).reset_jobs(0, 0)
    assert [one.path.read_bytes() for one in chaining.given(world.db, child, 0)][1] == b"other\n"
    world.control(parent).reset_jobs(1, 1)
    world.control(parent).cancel_jobs(1, 1)
    assert "is not there any more" in told()[1]
    assert check(world.ledger) == []
