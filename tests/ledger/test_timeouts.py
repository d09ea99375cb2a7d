"""Every state that waits on a site has a timeout in observed time, and a time in which nobody could look ages nobody."""

import pytest

from icp.ledger.sites import VAIN
from icp.model.plan import Policy
from icp.states import Agent, Attempt, Pilot, Task
from tests.ledger.build import task
from tests.property.engine_scene import Scene

HOUR = 3600.0
POLICY = Policy(backoff=(0,), gap=600.0)
"""Exchanges may be ten minutes apart here, so that a day takes 144 of them."""


@pytest.fixture
def make(tmp_path):
    made = []

    def scene(policy=POLICY, **more):
        made.append(Scene(tmp_path / str(len(made)), policy=policy, **more))
        return made[-1]

    yield scene
    for one in made:
        one.close()


def begin(scene, *, walltime=None, jobs=1):
    """A dataset of one task a job, with an agent that is there; (site, agent)."""
    scene.submit(jobs, task("a", outputs=["a.txt"]))
    site = scene.sites["near"]
    scene.tick()
    agent = site.start(next(iter(site.jobs.values())), walltime=walltime)
    scene.tick()
    return site, agent


def watch(scene, seconds, *agents, until=None):
    """Exchanges go on for so long, with a heartbeat of these agents; whether ``until`` came true on the way."""
    passed = 0.0
    while passed < seconds:
        for agent in agents:
            agent.tell({"f": "beat"})
        step = min(scene.config.policy.gap, seconds - passed)
        scene.tick(step, verify=False)
        passed += step
        if until is not None and until():
            scene.verify()
            return True
    scene.verify()
    return False


def attempt(scene, number=1):
    return Attempt(scene.one("SELECT state FROM attempt WHERE id = ?", number))


def agent_state(scene, number=1):
    return Agent(scene.one("SELECT state FROM agent WHERE id = ?", number))


def pilot_state(scene, number=1):
    return Pilot(scene.one("SELECT state FROM pilot WHERE id = ?", number))


def test_a_card_that_nobody_takes_is_recalled_after_a_day_and_dealt_anew(make):
    scene = make()
    _, agent = begin(scene)
    watch(scene, 23.5 * HOUR, agent)
    assert attempt(scene) == Attempt.QUEUED
    assert watch(scene, 1.5 * HOUR, agent, until=lambda: attempt(scene) == Attempt.RECALLED)
    watch(scene, 700, agent)
    assert scene.one("SELECT count(*) FROM attempt") == 2 and attempt(scene, 2) == Attempt.QUEUED


def test_a_card_that_is_in_no_place_any_more_is_lost_soon_after_it_was_asked_back(make):
    scene = make()
    site, agent = begin(scene)
    site.inbox.clear()
    watch(scene, 23.5 * HOUR, agent)
    assert attempt(scene) == Attempt.QUEUED
    assert watch(scene, 1 * HOUR, agent, until=lambda: attempt(scene) == Attempt.LOST)


def test_a_card_that_one_pilot_after_the_other_does_not_find_is_lost_without_waiting(make):
    scene = make()
    site, agent = begin(scene)
    site.inbox.clear()
    for _ in range(VAIN):
        assert attempt(scene) == Attempt.QUEUED
        agent.tell({"f": "beat"})
        site.stop(agent)
        site.end_job(site.jobs[agent.pilot], "ended", 0)
        assert watch(scene, HOUR, until=lambda: any(job.state == "pending" for job in site.jobs.values()) or attempt(scene) == Attempt.LOST)
        waiting = [job for job in site.jobs.values() if job.state == "pending"]
        if waiting:
            agent = site.start(waiting[0])
            scene.tick()
    assert watch(scene, HOUR, until=lambda: attempt(scene) == Attempt.LOST)


@pytest.mark.parametrize(
    ("word", "limit", "after"),
    [(None, 1, Attempt.RECALLED), ("staging", 2, Attempt.LOST), ("storing", 2, Attempt.LOST)],
)
def test_what_does_not_go_on_is_cancelled_and_its_agent_fenced_after_as_long_again(make, word, limit, after):
    scene = make()
    site, agent = begin(scene)
    site.claim(agent)
    if word:
        site.progress(agent, agent.todo[0], word)
    begun = agent.todo[0].spec["a"]
    watch(scene, (limit - 0.25) * HOUR, agent)
    assert begun not in site.cancels
    watch(scene, 0.75 * HOUR, agent)
    assert begun in site.cancels and agent_state(scene) == Agent.LIVE
    assert watch(scene, (limit + 0.75) * HOUR, agent, until=lambda: agent_state(scene) == Agent.FENCED)
    assert agent.place == "fenced"
    # it goes on writing where its folder now lies; only the end of its batch job says that it is over
    site.die(agent, supervisor=False)
    site.jobs[agent.pilot].state = "ended"
    assert watch(scene, HOUR, until=lambda: attempt(scene) == after)


def test_what_runs_is_left_alone_for_as_long_as_its_agent_talks(make):
    scene = make()
    site, agent = begin(scene)
    site.claim(agent)
    site.progress(agent, agent.todo[0], "running")
    watch(scene, 60 * HOUR, agent)
    assert attempt(scene) == Attempt.RUNNING and not site.cancels and agent_state(scene) == Agent.LIVE


def test_a_recall_that_came_too_late_does_not_shield_an_agent_that_hangs(make):
    scene = make()
    site, agent = begin(scene)
    site.claim(agent, say=False)
    dataset = scene.one("SELECT id FROM dataset")
    scene.control(dataset).suspend_jobs(0, 0)
    scene.tick()
    scene.control(dataset).resume_jobs(0, 0)
    assert watch(scene, 3 * HOUR, agent, until=lambda: agent_state(scene) == Agent.FENCED)
    assert watch(scene, HOUR, agent, until=lambda: attempt(scene) == Attempt.RECALLED)


def test_silence_makes_suspect_and_a_word_makes_live_again(make):
    scene = make(Policy(backoff=(0,)))
    _, agent = begin(scene)
    watch(scene, 240)
    assert agent_state(scene) == Agent.LIVE
    watch(scene, 240)
    assert agent_state(scene) == Agent.SUSPECT
    watch(scene, 20 * HOUR)
    assert agent_state(scene) == Agent.SUSPECT, "silence alone is no evidence of an end"
    agent.tell({"f": "beat"})
    scene.tick()
    assert agent_state(scene) == Agent.LIVE


@pytest.mark.parametrize("batch", ["unknown", "running", "down"])
def test_an_agent_past_its_walltime_and_the_margin_is_fenced_and_what_it_ran_is_lost(make, batch):
    scene = make()
    site, agent = begin(scene, walltime=HOUR)
    site.claim(agent)
    site.progress(agent, agent.todo[0], "running")
    scene.tick()
    agent.muted = True
    if batch == "down":
        site.asked_batch = False
    else:
        site.jobs[agent.pilot].state = batch
    watch(scene, HOUR + 500)
    assert agent_state(scene) == Agent.SUSPECT and attempt(scene) == Attempt.RUNNING
    assert watch(scene, 2 * HOUR, until=lambda: attempt(scene) == Attempt.LOST)
    assert agent_state(scene) == Agent.ENDED
    scene.tick()
    assert pilot_state(scene) == {"unknown": Pilot.LOST, "running": Pilot.CANCELLED, "down": Pilot.RUNNING}[batch]


def lose(scene, site, agent):
    """The agent's node goes without a word; its attempt becomes lost by the batch system's."""
    agent.muted = True
    site.jobs[agent.pilot].state = "ended"
    assert watch(scene, HOUR, until=lambda: attempt(scene) == Attempt.LOST)


def test_a_late_ok_of_a_lost_attempt_is_accepted_if_no_other_was(make):
    scene = make()
    site, agent = begin(scene)
    site.claim(agent)
    site.progress(agent, agent.todo[0], "running")
    scene.tick()
    work = agent.todo[0]
    lose(scene, site, agent)
    assert site.end(agent, work, "ok", stats={"x": 1.0}) == "ok"
    agent.unmute()
    scene.tick()
    assert attempt(scene) == Attempt.OK
    assert set(scene.states(1).values()) == {Task.OK}
    scene.settle()
    assert scene.homes(1) == {"000000/a.txt": site.produced[work.spec["a"]]["a.txt"]}


def test_a_late_ok_behind_another_counts_for_nothing_and_its_files_go(make):
    scene = make()
    site, agent = begin(scene)
    site.claim(agent)
    site.progress(agent, agent.todo[0], "running")
    scene.tick()
    work = agent.todo[0]
    lose(scene, site, agent)
    site.end(agent, work, "ok", stats={"x": 1.0})
    scene.settle()
    before = scene.homes(1)
    agent.unmute()
    # nothing else is at the site: a new dataset makes the engine ask it again
    scene.submit(1, name="e")
    scene.settle()
    assert scene.homes(1) == before
    assert scene.one("SELECT count(*) FROM task WHERE dataset = 1 AND state = 4") == 1
    assert not [key for key in site.store if key[0] == work.spec["a"]]


def test_a_submission_without_a_receipt_fails_when_the_batch_system_never_saw_it(make):
    scene = make(Policy(backoff=(0,)), pilots=1)
    scene.sites["near"].submits.append("nothing")
    scene.submit(1)
    scene.tick()
    watch(scene, 840)
    assert pilot_state(scene) == Pilot.SUBMITTING
    assert watch(scene, 600, until=lambda: pilot_state(scene) == Pilot.FAILED)


def test_a_submission_without_a_receipt_that_went_through_is_one_pilot(make):
    scene = make(pilots=1)
    site = scene.sites["near"]
    site.submits.append("lost")
    scene.submit(1)
    scene.tick()
    watch(scene, 3 * HOUR)
    assert pilot_state(scene) == Pilot.PENDING and len(site.jobs) == 1, "the listing shows what no receipt told"
    site.start(next(iter(site.jobs.values())))
    scene.tick()
    assert pilot_state(scene) == Pilot.RUNNING


def test_a_pilot_that_the_batch_system_forgot_is_lost_after_two_looks_and_silence(make):
    scene = make(Policy(backoff=(0,)), pilots=1)
    site, agent = begin(scene)
    site.claim(agent)
    site.jobs[agent.pilot].state = "absent"
    watch(scene, 600, agent)
    assert pilot_state(scene) == Pilot.RUNNING, "an agent that talks is better evidence"
    agent.muted = True
    assert watch(scene, HOUR, until=lambda: pilot_state(scene) == Pilot.LOST)
    # and when it comes back after all, it is one of ours
    agent.place, agent.muted = "agents", False
    site.jobs[agent.pilot].agents = 0
    site.start(site.jobs[agent.pilot])
    scene.tick()
    assert pilot_state(scene) == Pilot.RUNNING


def test_a_pilot_that_ends_before_its_agent_holds_the_next_one_back(make):
    scene = make(pilots=1)
    site = scene.sites["near"]
    scene.submit(1)
    scene.tick()
    next(iter(site.jobs.values())).state = "ended"
    scene.tick()
    assert pilot_state(scene) == Pilot.PENDING, "its agent may have begun where this answer did not see it yet"
    scene.tick()
    assert pilot_state(scene) == Pilot.FAILED
    scene.tick()
    assert len(site.jobs) == 1, "at once, it would fail at once again"
    watch(scene, 60)
    assert len(site.jobs) == 2


def test_a_laptop_that_slept_twelve_hours_makes_nobody_silent_late_or_lost(make):
    scene = make(Policy(backoff=(0,)))
    site, agent = begin(scene, walltime=100 * HOUR)
    site.claim(agent)
    scene.tick()
    observed = scene.one("SELECT observed FROM site")
    scene.tick(12 * HOUR)
    assert scene.one("SELECT observed FROM site") <= observed + scene.config.policy.gap
    assert agent_state(scene) == Agent.LIVE and attempt(scene) == Attempt.CLAIMED and not site.cancels


def test_a_site_that_cannot_be_reached_ages_nothing(make):
    scene = make(Policy(backoff=(0,)))
    site, agent = begin(scene)
    site.claim(agent)
    scene.tick()
    observed = scene.one("SELECT observed FROM site")
    for _ in range(200):
        scene.modes["near"] = "unreachable"
        scene.tick(120, verify=False)
    scene.tick(120)
    assert scene.one("SELECT observed FROM site") <= observed + scene.config.policy.gap
    assert agent_state(scene) == Agent.LIVE and attempt(scene) == Attempt.CLAIMED and not site.cancels


def test_another_login_nodes_clock_is_not_compared(make):
    scene = make(Policy(backoff=(0,)))
    site, _ = begin(scene)
    observed = scene.one("SELECT observed FROM site")
    for i in range(20):
        site.host, site.clock = f"login{i % 2}", site.clock + 10_000 * (-1) ** i
        scene.tick(60)
    assert scene.one("SELECT observed FROM site") == observed
    assert agent_state(scene) == Agent.LIVE


def test_a_pilot_that_waits_for_what_never_comes_is_cancelled_after_ten_minutes_and_the_site_says_what_to_change(make):
    scene = make(Policy(backoff=(0,)), pilots=1, slurm=True)
    site = scene.sites["near"]
    scene.submit(1)
    scene.tick()
    site.queue[0].reason = "PartitionTimeLimit"
    watch(scene, 540)
    assert scene.one("SELECT paused FROM site") is None, "after a restart every job is told so for a while"
    watch(scene, 600)
    assert "site.near.pilot.walltime" in scene.one("SELECT paused FROM site")
    assert pilot_state(scene) == Pilot.CANCELLED and not site.living() and len(site.queue) == 1


def test_a_pilot_that_its_own_person_holds_is_left_alone(make):
    scene = make(pilots=1, slurm=True)
    site = scene.sites["near"]
    scene.submit(1)
    scene.tick()
    site.queue[0].reason = "JobHeldUser"
    watch(scene, 3 * HOUR)
    assert scene.one("SELECT paused FROM site") is None and pilot_state(scene) == Pilot.PENDING
    assert "scontrol release" in scene.one("SELECT never FROM pilot")


@pytest.mark.parametrize("how", ["failed", "deaf"])
def test_an_order_to_end_a_pilot_is_given_again_until_its_job_is_gone(make, how):
    scene = make(Policy(backoff=(0,)), pilots=1, slurm=True)
    site = scene.sites["near"]
    dataset = scene.submit(1)
    scene.tick()
    site.kills += [how, how]
    scene.control(dataset).cancel()
    assert watch(scene, HOUR, until=lambda: pilot_state(scene) == Pilot.CANCELLED)
    assert not site.kills and not site.living()


def test_a_submission_that_went_through_twice_keeps_one_job(make):
    scene = make(Policy(backoff=(0,)), pilots=1, slurm=True)
    site = scene.sites["near"]
    site.submits.append("twice")
    scene.submit(1)
    assert watch(scene, 600, until=lambda: len(site.queue) == 2 and len(site.living()) == 1)
    watch(scene, 600)
    assert len(site.living()) == 1 and pilot_state(scene) == Pilot.PENDING


def test_a_young_end_keeps_what_the_job_printed_last(make):
    scene = make(Policy(backoff=(0,)), pilots=1, slurm=True)
    site = scene.sites["near"]
    scene.submit(1)
    scene.tick()
    job = site.queue[0]
    job.state, job.exit = "ended", 127
    site.tails[job.pilot] = "module: noise\npilot: no Python 3.6 or newer on w1: set site.NAME.python or site.NAME.modules\n"
    scene.tick()
    scene.tick()
    assert "set site.near.python" in scene.one("SELECT reason FROM pilot") and scene.one("SELECT paused FROM site") is None
    scene.tick(60)
    site.queue[1].state, site.queue[1].exit = "ended", 127
    scene.tick()
    scene.tick()
    assert scene.one("SELECT paused FROM site").startswith("its last 2 pilots ended before an agent started")


def test_a_job_that_is_said_to_run_on_after_its_agents_died_is_cancelled(make):
    scene = make(Policy(backoff=(0,)), pilots=1, slurm=True)
    site, agent = begin(scene)
    site.die(agent)
    watch(scene, 30)
    assert agent_state(scene) == Agent.ENDED and site.living(), "the batch system needs some time to see it"
    assert watch(scene, 600, until=lambda: pilot_state(scene) == Pilot.CANCELLED)
    assert watch(scene, 600, until=lambda: len(site.living()) == 1), "another one does its work"


def vanish(scene, site, agent):
    """A card is claimed and done, and no word of it can be read: its attempt is believed lost; its key."""
    agent.muted = True
    site.claim(agent)
    work = agent.todo[0]
    assert site.end(agent, work, "ok") == "ok" and site.store
    agent.hidden.clear()
    agent.claimed.clear()
    agent.muted = False
    assert watch(scene, 25 * HOUR, agent, until=lambda: attempt(scene) == Attempt.LOST)
    assert scene.one("SELECT agent FROM attempt WHERE id = 1") is None
    return work.spec["a"]


def test_what_a_lost_attempt_stored_unseen_is_removed_once_another_counts(make):
    scene = make()
    site, agent = begin(scene)
    key = vanish(scene, site, agent)
    scene.tick()
    assert {one for one, _ in site.store} == {key}, "a late ok of it could still count"
    site.claim(agent)
    site.end(agent, agent.todo[0], "ok")
    scene.settle()
    assert scene.one("SELECT accepted FROM task") == 2
    assert key not in {one for one, _ in site.store}


@pytest.mark.parametrize("order", ["cancel_jobs", "reset_jobs"])
def test_what_a_lost_attempt_stored_is_removed_once_it_cannot_count(make, order):
    scene = make()
    site, agent = begin(scene)
    key = vanish(scene, site, agent)
    getattr(scene.control(1), order)(0, 0)
    scene.settle()
    assert key not in {one for one, _ in site.store}
