"""A restored backup, and jobs that took their cards along: forgotten, or known as they were; each settled with evidence, none counted twice."""

from __future__ import annotations

import pytest

from icp.ledger.check import check
from icp.ledger.db import backup
from icp.model.plan import Policy
from icp.states import Attempt, Dataset, Pilot
from tests.ledger.build import task
from tests.property.engine_scene import Scene

POLICY = Policy(backoff=(0,), gap=600.0)


@pytest.fixture
def scene(tmp_path):
    one = Scene(tmp_path / "scene", policy=POLICY, bags=("near",), pilots=1)
    yield one
    one.close()


def saved(scene):
    path = scene.folder / "backup.sqlite"
    backup(scene.desk, path)
    return path


def work(scene, until):
    """The first job, up to here: pending, running, ended, gathered (its result is accepted), or home."""
    scene.tick()
    site = scene.sites["near"]
    (job,) = site.jobs.values()
    if until == "pending":
        return job
    agent = site.start(job)
    site.claim(agent)
    scene.tick()
    if until == "running":
        return job
    site.end(agent, agent.todo[0], "ok", stats={"x": 1.0})
    site.stop(agent, "its card is done")
    job.state, job.exit = "ended", 0
    if until == "ended":
        return job
    while not scene.one("SELECT count(accepted) FROM task"):
        scene.tick()
    if until == "home":
        scene.settle()
    return job


def assert_over(scene):
    """No pilot and no bag is left open."""
    left = "SELECT count(*) FROM pilot WHERE live = 1 OR bag IN (1, 2, 3)"
    for _ in range(8):
        if not scene.one(left):
            return
        scene.tick(600.0)
    raise AssertionError(scene.db.execute("SELECT id, state, bag, word, reason FROM pilot").fetchall())


PHASES = ["pending", "running", "ended", "gathered", "home"]


@pytest.mark.parametrize("until", PHASES)
@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_what_a_job_does_counts_once_whatever_the_backup_knew_of_it(scene, known, until):
    scene.submit(1, task("a", outputs=["a.txt"]))
    if known:
        scene.tick()
    copy = saved(scene)
    if known:
        scene.pass_time(1.0)
    job = work(scene, until)
    site = scene.sites["near"]
    scene.restore(copy)
    if until == "running":
        # not cancelled as a stranger's: it goes on, and is the only one
        for _ in range(4):
            scene.tick(60.0)
        assert job.state == "running" and len(site.jobs) == 1
    scene.settle(seconds=600.0)
    assert scene.state(1) == Dataset.COMPLETE
    assert check(scene.desk) == []
    assert scene.one("SELECT count(accepted) FROM task") == 1
    assert_over(scene)
    assert list(scene.homes(1)) == ["000000/a.txt"]
    # what was told before the backup was taken, or lies in a bag yet, is not done again
    again = not known and until in ("gathered", "home")
    assert len(site.produced) == 1 + again
    if not again:
        assert scene.one("SELECT count(*) FROM attempt") == 1


def test_a_gather_that_was_ordered_and_forgotten_is_ordered_again(scene):
    scene.submit(1, task("a", outputs=["a.txt"]))
    work(scene, "ended")
    while scene.one("SELECT bag FROM pilot") != 3:
        scene.modes["near"] = "unreachable" if scene.one("SELECT bag FROM pilot") == 2 else None
        scene.modes = {key: mode for key, mode in scene.modes.items() if mode}
        scene.tick()
    copy = saved(scene)
    scene.settle()
    scene.restore(copy)
    scene.settle(seconds=600.0)
    assert scene.state(1) == Dataset.COMPLETE
    assert len(scene.sites["near"].produced) == 1
    assert_over(scene)


def test_the_job_of_a_dataset_that_the_backup_does_not_know_is_ended_and_counts_nothing(scene):
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.settle()
    copy = saved(scene)
    scene.submit(1, task("b", outputs=["b.txt"]), name="7")
    scene.tick()
    site = scene.sites["near"]
    job = list(site.jobs.values())[-1]
    site.claim(site.start(job))
    scene.tick()
    scene.restore(copy)
    for _ in range(4):
        scene.tick(60.0)
    assert job.state == "ended"
    scene.settle()
    assert scene.one("SELECT count(*) FROM dataset") == 1 and scene.one("SELECT count(*) FROM attempt") == 1
    assert Pilot(scene.one("SELECT state FROM pilot ORDER BY id DESC")) in (Pilot.CANCELLED, Pilot.FAILED)
    assert check(scene.desk) == []


def test_the_job_that_replaced_one_that_the_backup_waits_for_does_not_count_beside_it(scene):
    """After the backup the first job was lost, and a second one took its task: the backup knows of the first, and believes that it is out."""
    scene.submit(1, task("a", outputs=["a.txt"]))
    first = work(scene, "pending")
    copy = saved(scene)
    site = scene.sites["near"]
    site.claim(site.start(first))
    scene.tick()
    site.end_job(first, "ended", 1)
    while len(site.jobs) < 2:
        scene.tick(60.0)
    second = list(site.jobs.values())[-1]
    agent = site.start(second)
    site.claim(agent)
    site.end(agent, agent.todo[0], "ok", stats={"x": 1.0})
    scene.restore(copy)
    scene.settle(seconds=600.0)
    assert scene.state(1) == Dataset.COMPLETE
    assert scene.one("SELECT count(accepted) FROM task") == 1
    ok = scene.db.execute("SELECT void FROM attempt WHERE state = ?", (int(Attempt.OK),)).fetchall()
    assert sorted(ok).count((0,)) == 1
    assert check(scene.desk) == []
    assert_over(scene)


@pytest.mark.parametrize("order", ["suspend", "cancel"])
def test_what_a_person_held_back_before_the_backup_is_not_taken_up(scene, order):
    """The jobs were resumed, or reset, and went out, after it was taken: this ledger knows nothing of that."""
    scene.submit(1, task("a", outputs=["a.txt"]))
    getattr(scene.control(1), f"{order}_jobs")(0, 0)
    copy = saved(scene)
    scene.control(1).resume_jobs(0, 0) if order == "suspend" else scene.control(1).reset_jobs(0, 0)
    while not scene.sites["near"].jobs:
        scene.tick()
    (job,) = scene.sites["near"].jobs.values()
    scene.sites["near"].claim(scene.sites["near"].start(job))
    scene.tick()
    scene.restore(copy)
    for _ in range(4):
        scene.tick(60.0)
    assert job.state == "ended"
    assert scene.one("SELECT count(*) FROM attempt") == scene.one("SELECT count(*) FROM task") == 0
    assert check(scene.desk) == []
    assert_over(scene)
