"""What failed on a host, by no fault of its own, is tried on another one as long as there is one, and there again otherwise."""

import pytest

from icp.model.plan import Policy
from icp.states import Attempt, Task
from tests.ledger.build import task
from tests.property.engine_scene import Scene

POLICY = Policy(backoff=(0, 60), pending=900.0)


@pytest.fixture
def make(tmp_path):
    made = []

    def scene(**more):
        made.append(Scene(tmp_path / str(len(made)), policy=POLICY, **more))
        return made[-1]

    yield scene
    for one in made:
        one.close()


def begin(scene, *hosts):
    """One task, which the agent on the first of these hosts has claimed; the agents on all of them, by host."""
    site = scene.sites["near"]
    scene.submit(5 * len(hosts), task("a", outputs=["a.txt"]))
    agents = {}
    for host in hosts:
        while not (waiting := [job for job in site.all_jobs() if job.state == "pending"]):
            scene.tick(10)
        agents[host] = site.start(waiting[0], host=host)
    scene.tick()
    first = agents[hosts[0]]
    site.claim(first)
    (work,) = first.todo
    for _ in range(20):
        for agent in agents.values():
            while site.claim(agent):
                pass
            for one in [one for one in agent.todo if one is not work]:
                site.end(agent, one, "ok")
        scene.tick()
    assert scene.one("SELECT count(*) FROM task WHERE state <> ?", int(Task.OK)) == 1
    return work, agents


def fail(scene, agent, kind="software"):
    (work,) = agent.todo
    scene.sites["near"].end(agent, work, "error", kind, err="there is no way to it")
    scene.tick()
    scene.tick()


def hosts(scene):
    """Where each attempt of the task that failed was."""
    failed = scene.one("SELECT task FROM attempt WHERE state = ? LIMIT 1", int(Attempt.ERROR))
    rows = scene.db.execute(
        "SELECT n.text FROM attempt a LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name n ON n.id = g.host WHERE a.task = ? ORDER BY a.id", (failed,)
    ).fetchall()
    return [row[0] for row in rows]


def pass_time(scene, seconds, *agents):
    for _ in range(int(seconds / 60)):
        for agent in agents:
            agent.tell({"f": "beat", "t": scene.sites["near"].clock})
        scene.tick(60, verify=False)


@pytest.mark.parametrize("kind", ["stage", "software", "node"])
def test_the_next_attempt_is_another_hosts(make, kind):
    scene = make()
    _, agents = begin(scene, "h1", "h2")
    site = scene.sites["near"]
    fail(scene, agents["h1"], kind)
    assert len(site.inbox) == 1
    assert site.claim(agents["h1"]) is None and site.claim(agents["h2"]) is not None
    site.end(agents["h2"], agents["h2"].todo[0], "ok")
    scene.tick()
    assert hosts(scene) == ["h1", "h2"] and scene.one("SELECT count(*) FROM task WHERE state <> ?", int(Task.OK)) == 0


@pytest.mark.parametrize("kind", ["payload", "resource"])
def test_what_is_the_tasks_own_fault_is_tried_anywhere(make, kind):
    scene = make()
    _, agents = begin(scene, "h1", "h2")
    fail(scene, agents["h1"], kind)
    assert scene.sites["near"].claim(agents["h1"]) is not None


def test_a_new_agent_on_that_host_is_as_bad_and_a_pilot_is_asked_for_that_may_come_to_another_one(make):
    scene = make()
    _, agents = begin(scene, "h1")
    site = scene.sites["near"]
    fail(scene, agents["h1"])
    (job,) = [job for job in site.all_jobs() if job.state == "pending"]
    again = site.start(job, host="h1")
    scene.tick()
    assert site.claim(again) is None and site.claim(agents["h1"]) is None


def test_where_every_host_failed_it_is_tried_there_again_after_the_back_off(make):
    scene = make()
    _, agents = begin(scene, "h1", "h2")
    site = scene.sites["near"]
    fail(scene, agents["h1"])
    site.claim(agents["h2"])
    fail(scene, agents["h2"])
    assert not site.inbox
    pass_time(scene, 120, *agents.values())
    assert site.claim(agents["h1"]) is not None


def test_what_waits_for_a_place_that_never_comes_goes_back_in_time(make):
    """The other host is believed in, and its agent never takes the card."""
    scene = make()
    _, agents = begin(scene, "h1", "h2")
    site = scene.sites["near"]
    fail(scene, agents["h1"])
    pass_time(scene, 600, *agents.values())
    assert site.claim(agents["h1"]) is None
    pass_time(scene, 600, *agents.values())
    assert site.claim(agents["h1"]) is not None
    scene.verify()


def test_a_person_who_mended_the_host_is_believed(make):
    scene = make()
    _, agents = begin(scene, "h1", "h2")
    site = scene.sites["near"]
    for _ in range(8):
        pass_time(scene, 120, *agents.values())
        taker = next(agent for agent in agents.values() if agent.todo or site.claim(agent))
        fail(scene, taker)
    assert scene.one("SELECT count(*) FROM task WHERE state = ?", int(Task.FAILED)) == 1
    job = scene.one("SELECT job FROM task WHERE state = ?", int(Task.FAILED))
    scene.control(1).retry_jobs(job, job)
    scene.tick()
    assert scene.one("SELECT n.body FROM card k JOIN need n ON n.id = k.need ORDER BY k.id DESC LIMIT 1").count("Host") == 0


def test_a_card_that_no_host_there_takes_any_more_is_not_left_lying(make):
    """A pilot was to come elsewhere, and came to the same host: then it is tried there again."""
    scene = make()
    _, agents = begin(scene, "h1")
    site = scene.sites["near"]
    fail(scene, agents["h1"])
    assert len(site.inbox) == 1
    (job,) = [job for job in site.all_jobs() if job.state == "pending"]
    again = site.start(job, host="h1")
    for _ in range(5):
        assert site.claim(again) is None or site.inbox == {}
        scene.tick()
        if again.todo:
            break
    assert again.todo
    # what may be taken is not called back
    for agent in (again, *agents.values()):
        agent.claimed.clear()
    scene.verify()


def test_what_goes_there_again_for_want_of_another_place_is_not_called_back(make):
    scene = make(pilots=1)
    _, agents = begin(scene, "h1")
    site = scene.sites["near"]
    fail(scene, agents["h1"])
    (card,) = site.inbox
    for _ in range(5):
        scene.tick()
    assert list(site.inbox) == [card] and site.claim(agents["h1"]) == card
