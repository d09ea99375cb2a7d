"""Outputs that a task at another site reads: brought home, sent on, and gone everywhere when nobody reads them any more."""

import pytest

from icp.commands import reasons
from icp.ledger import sites
from icp.model.definition import OutputDef
from icp.states import Dataset, File, Task
from tests.ledger.build import task
from tests.property.engine_scene import Scene

A, B = task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"])


@pytest.fixture
def scene(tmp_path):
    one = Scene(tmp_path, sites=("near", "far"))
    yield one
    one.close()


def pause(scene, name):
    with scene.desk.write() as db:
        sites.pause(db, scene.one("SELECT id FROM site WHERE name = ?", name), "full")


def work(scene, *names):
    """These sites do what they have."""
    for name in names:
        scene.sites[name].behave()
    scene.tick(61.0)


def until(scene, true, *names, ticks=30):
    for _ in range(ticks):
        if true():
            return
        work(scene, *names)
    raise AssertionError(scene.moving())


def first_at_near(scene, *defs, jobs=3):
    """All of the first task were done near, and nothing goes there any more."""
    pause(scene, "far")
    dataset = scene.submit(jobs, *(defs or (A, B)))
    until(scene, lambda: list(scene.states(dataset).values()).count(Task.OK) >= jobs, "near")
    assert scene.one("SELECT count(*) FROM attempt WHERE task IN (SELECT id FROM task WHERE job >= 0) AND state = 5") == jobs
    pause(scene, "near")
    with scene.desk.write() as db:
        sites.resume(db, scene.one("SELECT id FROM site WHERE name = 'far'"))
        # a card of the second task may lie near already
        db.execute("UPDATE attempt SET stop = 1 WHERE live = 1 AND state = 0")
    scene.verify()
    return dataset


def sent(scene, name):
    """sha256 of what lies in a site's cache."""
    return set(scene.sites[name].blobs)


def relaying(scene):
    return scene.one("SELECT count(*) FROM file WHERE state = ?", int(File.RELAYING))


def complete(scene, dataset):
    return lambda: scene.state(dataset) == Dataset.COMPLETE


def nothing_is_left(scene):
    for _ in range(2):
        scene.tick(61.0)
    for site in scene.sites.values():
        assert site.blobs == set()
        assert site.store == {}
    assert not (scene.folder / "relay").exists()
    assert scene.one("SELECT count(*) FROM cached_for") == scene.one("SELECT count(*) FROM cached") == 0


def why(scene, dataset, job):
    """What `icp why` says of the second task of a job."""
    with scene.desk.read() as db:
        said, *_ = reasons.why(db, scene.config, str(dataset), scene.now, job=str(job), task="b")
    return said


def test_an_input_is_relayed_and_gone_in_the_end(scene):
    dataset = first_at_near(scene)
    until(scene, lambda: sent(scene, "far"), "near")
    assert len(list((scene.folder / "relay").iterdir())) == 3
    until(scene, complete(scene, dataset), "near", "far")
    placed = dict(scene.db.execute("SELECT d.name, t.site FROM task t JOIN task_def d ON d.id = t.task_def").fetchall())
    assert placed["a"] != placed["b"]
    nothing_is_left(scene)


def test_a_child_waits_while_the_site_of_its_input_does_not_answer(scene):
    dataset = first_at_near(scene)
    for _ in range(10):
        scene.modes["near"] = "unreachable"
        work(scene, "far")
    said = why(scene, dataset, 0)
    assert said.sentence == "it waits for inputs from another site"
    assert "a.txt is at site near, which does not answer since" in said.evidence[0]
    before = scene.states(dataset)
    assert Task.FAILED not in before.values()
    until(scene, complete(scene, dataset), "near", "far")
    nothing_is_left(scene)


def test_what_is_gone_at_its_site_is_made_again(scene):
    dataset = first_at_near(scene)
    scene.sites["near"].store.clear()
    until(scene, complete(scene, dataset), "near", "far")
    assert scene.one("SELECT count(*) FROM attempt WHERE void = 1 AND state = 5") == 3
    nothing_is_left(scene)


def test_what_is_gone_from_the_relay_cache_is_brought_again(scene):
    dataset = first_at_near(scene)
    until(scene, (scene.folder / "relay").is_dir)
    for path in (scene.folder / "relay").iterdir():
        path.unlink()
    until(scene, complete(scene, dataset), "near", "far")
    assert scene.one("SELECT count(*) FROM attempt WHERE void = 1 AND state = 5") == 0
    nothing_is_left(scene)


def test_a_reset_while_inputs_travel(scene):
    dataset = first_at_near(scene)
    until(scene, lambda: relaying(scene) or sent(scene, "far"))
    scene.control(dataset).reset_jobs(0, 2)
    scene.verify()
    until(scene, complete(scene, dataset), "near", "far")
    nothing_is_left(scene)


def test_a_final_task_reads_what_several_sites_made(scene):
    parts = task("a", outputs=[OutputDef("a.txt", keep=False), OutputDef("p*.g", glob=True, keep=False)])
    dataset = scene.submit(8, parts, task("sum", inputs=["a:a.txt[*]", "a:p*.g[*]"], outputs=["sum.txt"], final=True))
    pause(scene, "far")
    until(scene, lambda: Task.OK in scene.states(dataset).values(), "near")
    pause(scene, "near")
    with scene.desk.write() as db:
        sites.resume(db, scene.one("SELECT id FROM site WHERE name = 'far'"))
        db.execute("UPDATE attempt SET stop = 1 WHERE live = 1 AND state = 0")
    until(scene, complete(scene, dataset), "near", "far", ticks=60)
    assert scene.one("SELECT count(DISTINCT site) FROM task WHERE job >= 0") == 2
    nothing_is_left(scene)


@pytest.mark.parametrize("point", ["engine.intent", "engine.outbox", "engine.answered", "engine.home_renamed", "engine.unlinked", "between transactions"])
def test_an_engine_that_dies_while_inputs_travel(scene, point):
    dataset = first_at_near(scene)
    for visit in range(1, 12):
        scene.crash = (point, visit)
        work(scene, "near", "far")
    until(scene, complete(scene, dataset), "near", "far")
    nothing_is_left(scene)
