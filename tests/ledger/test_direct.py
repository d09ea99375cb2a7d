"""A site where each card is a batch job of its own: what it asks for, and what becomes of cards and jobs that lose each other."""

from dataclasses import replace

import pytest

from icp.engine.dealing import BEGIN, END
from icp.ledger import bags as bags_of_ledger
from icp.ledger import views_jobs
from icp.ledger.check import check
from icp.ledger.fold import Fold
from icp.ledger.sites import pause
from icp.model.batch import Known
from icp.model.plan import Policy
from icp.pilot.live import compose
from icp.states import Attempt, Dataset, Pilot, Task
from tests.ledger.build import task
from tests.property.engine_scene import QUICK, Scene
from tests.property.test_engine import SHAPES, History, finish

POLICY = Policy(backoff=(0,), gap=600.0)


@pytest.fixture
def make(tmp_path):
    made = []

    def scene(policy=POLICY, **more):
        made.append(Scene(tmp_path / str(len(made)), policy=policy, **{"direct": ("near",), "pilots": 4, **more}))
        return made[-1]

    yield scene
    for one in made:
        one.close()


def pilots(scene):
    return [(Pilot(state), reason) for state, reason in scene.db.execute("SELECT state, reason FROM pilot ORDER BY id").fetchall()]


def test_each_card_has_a_batch_job_that_asks_for_what_it_needs(make):
    scene = make()
    scene.submit(9, task("a", outputs=["a.txt"]))
    scene.tick()
    site = scene.sites["near"]
    assert len(site.jobs) == len(site.inbox) == 4, "as many as pilot.max allows"
    rows = scene.db.execute("SELECT p.key, p.cpus, p.memory, p.walltime, c.key FROM pilot p JOIN card c ON c.id = p.card").fetchall()
    need = next(iter(site.needs.values()))
    for key, cpus, memory, walltime, card in rows:
        told = site.told[key.hex()]
        assert (cpus, memory, walltime) == (need.cpus, need.memory, need.time + BEGIN + END)
        assert (told["cpus"], told["memory"], told["disk"], told["gpus"], told["walltime"]) == (need.cpus, need.memory, need.disk, need.gpus, walltime)
        assert [name.rpartition("-")[2] for name in told["only"]] == [card.hex()]
    assert len({one[4] for one in rows}) == 4
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE
    assert not [one for one in pilots(scene) if one[0] not in (Pilot.DONE, Pilot.RUNNING)]


def test_short_tasks_travel_many_to_a_batch_job_once_that_is_known(make):
    scene = make()
    scene.submit(60, task("a", outputs=["a.txt"]))
    scene.settle()
    n, jobs, longest = scene.one("SELECT count(*), count(DISTINCT card), max(n) FROM (SELECT card, count(*) OVER (PARTITION BY card) AS n FROM attempt)")
    assert n == 60 and jobs < 40 and longest > 1
    for card, walltime, time_ in scene.db.execute(
        "SELECT p.card, p.walltime, n.body ->> 'time' FROM pilot p JOIN card c ON c.id = p.card JOIN need n ON n.id = c.need"
    ).fetchall():
        tasks = scene.one("SELECT count(*) FROM attempt WHERE card = ?", card)
        # simulated tasks run for 2.8 s
        assert walltime - time_ - BEGIN - END == 0 if tasks == 1 else 5 * tasks <= walltime - time_ - BEGIN - END <= 6 * tasks


@pytest.mark.parametrize("how", ["ended", "vanish", "refused", "nothing"])
def test_a_card_whose_batch_job_is_gone_is_asked_back_and_goes_again(make, how):
    scene = make(pilots=1)
    site = scene.sites["near"]
    if how in ("refused", "nothing"):
        site.submits.append(how)
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.tick()
    if how in ("ended", "vanish"):
        (job,) = site.jobs.values()
        job.state, job.exit = ("absent", None) if how == "vanish" else ("ended", 1)
    for _ in range(5):
        scene.tick(600.0)
    assert Attempt(scene.one("SELECT state FROM attempt WHERE id = 1")) == Attempt.RECALLED
    assert len(site.recalled) >= 1
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE


def test_a_batch_job_whose_card_is_not_wanted_is_cancelled(make):
    scene = make(pilots=2)
    scene.submit(2, task("a", outputs=["a.txt"]))
    scene.tick()
    scene.control(1).cancel_jobs(0, 0)
    for _ in range(4):
        scene.tick()
    site = scene.sites["near"]
    assert sorted(job.state for job in site.jobs.values()) == ["ended", "pending"]
    assert pilots(scene)[0] == (Pilot.CANCELLED, "what it was to run is not wanted any more")
    assert len(site.inbox) == 1
    scene.settle()
    assert scene.states(1) == {(0, "a"): Task.CANCELLED, (1, "a"): Task.OK}


def test_batch_jobs_that_do_not_take_their_cards_stop_the_site(make):
    """A node that is too small, or a spool that it does not see: the next would do no better, and each costs an allocation."""
    scene = make(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    site = scene.sites["near"]
    for _ in range(200):
        scene.tick(600.0)
        for job in site.all_jobs():
            if job.state == "pending":
                site.stop(site.start(job), "idle")
                job.state = "ended"
        if scene.one("SELECT paused FROM site") is not None:
            break
    assert "did not take its card" in scene.one("SELECT paused FROM site")
    assert len(site.jobs) == 6
    assert pilots(scene)[0] == (Pilot.DONE, "it ended without having taken its card")
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE
    assert scene.one("SELECT young FROM site") == 0


def test_a_card_waits_as_long_as_its_batch_job_does(make):
    scene = make(policy=Policy(backoff=(0,), gap=43200.0), pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    for _ in range(20):
        scene.tick(43200.0)
    site = scene.sites["near"]
    assert len(site.jobs) == 1 and len(site.inbox) == 1 and not site.recalled
    scene.settle()
    assert scene.one("SELECT count(*) FROM attempt") == 1


def test_work_that_waits_for_a_batch_job_is_called_back_when_another_site_is_free(make):
    scene = make(sites=("near", "far"), pilots=1)
    near, far = scene.sites["near"], scene.sites["far"]
    scene.modes["far"] = "unreachable"
    scene.submit(1, task("a", outputs=["a.txt"]))
    for _ in range(3):
        scene.modes["far"] = "unreachable"
        scene.tick(600.0)
    assert len(near.jobs) == 1 and not far.jobs
    for _ in range(12):
        far.behave()
        scene.tick(600.0)
    assert scene.states(1) == {(0, "a"): Task.OK}
    assert near.recalled and next(iter(near.jobs.values())).state == "ended", "and its batch job left the queue"


# --- workers that share no file system


@pytest.fixture
def bags(make):
    return lambda **more: make(bags=("near",), **more)


def test_facts_and_files_of_a_bag_are_there_when_its_job_has_ended(bags):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))
    scene.tick()
    site = scene.sites["near"]
    assert not site.inbox, "the card went into the bag"
    (job,) = site.jobs.values()
    agent = site.start(job)
    site.claim(agent)
    for _ in range(5):
        scene.tick(600.0)
    assert scene.one("SELECT state FROM attempt") == Attempt.QUEUED and scene.one("SELECT count(*) FROM agent") == 0
    site.end(agent, agent.todo[0], "ok")
    site.stop(agent, "its card is done")
    job.state, job.exit = "ended", 0
    for _ in range(6):
        scene.tick()
    assert scene.states(1)[0, "a"] == Task.OK
    assert Pilot(scene.one("SELECT state FROM pilot WHERE id = 1")) == Pilot.DONE
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE
    assert list(scene.homes(1)) == ["000000/b.txt"]


def _hear(scene, words, *, job="running", agent=0):
    """The batch system passes on what the one running job says: of the card that it took, these words."""
    key, card = scene.db.execute("SELECT p.key, c.key FROM pilot p JOIN card c ON c.id = p.card ORDER BY p.id DESC LIMIT 1").fetchone()
    facts = [{"n": 2, "t": 5.0, "f": "claimed", "card": card.hex()}]
    (attempt,) = scene.db.execute("SELECT key FROM attempt ORDER BY id DESC LIMIT 1").fetchone()
    facts += [{"n": n, "t": 5.0 + n, "f": word, "a": attempt.hex()} for n, word in enumerate(words, 3)]
    known = {key.hex(): Known(job, tells=compose(f"{key.hex()}.0.{agent:016x}", "node7", facts))}
    with scene.desk.write() as db:
        cards = bags_of_ledger.hear(db, 1, known)
        fold = Fold(scene.desk, scene.definitions, scene.now)
        bags_of_ledger.begun(fold, cards)
        fold.flush()
    return cards


@pytest.mark.parametrize("end", ["ok", "killed", "nothing"])
@pytest.mark.parametrize("words", [[], ["staging"], ["staging", "running", "storing", "ended"]])
def test_what_a_running_job_says_is_shown_and_nothing_is_believed_for_it(bags, words, end):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.tick()
    site = scene.sites["near"]
    (job,) = site.jobs.values()
    agent = site.start(job)
    site.claim(agent)
    scene.tick()
    assert scene.states(1) == {(0, "a"): Task.QUEUED}
    assert _hear(scene, words) and not _hear(scene, words), "the same again is no news"
    assert scene.states(1) == {(0, "a"): Task.PROCESSING}
    (shown,) = views_jobs.attempts(scene.db, 1)
    assert (shown.state, shown.host) == ({"": "claimed", "staging": "copying_input", "ended": "copying_output"}[words[-1] if words else ""], "node7")
    # a fact that counts is none of it, and one that it ended least of all
    before = scene.db.execute("SELECT state, agent, since, void FROM attempt").fetchall()
    assert before[0][0] == Attempt.QUEUED and scene.one("SELECT count(*) FROM agent") == scene.one("SELECT count(*) FROM file") == 0
    for _ in range(5):
        scene.tick(600.0)
    assert scene.db.execute("SELECT state, agent, since, void FROM attempt").fetchall() == before, "silence is no evidence either"
    assert check(scene.desk) == []
    if end == "ok":
        site.end(agent, agent.todo[0], "ok")
        site.stop(agent, "its card is done")
        job.state, job.exit = "ended", 0
    elif end == "killed":
        site.end_job(job, "ended", 1)
    else:
        # it began, by its own word, and the batch system begins it again: another agent, which takes no card
        job.state = "ended"
        site.agents.pop(agent.name)
    for _ in range(6):
        scene.tick(60.0)
    assert Attempt(scene.one("SELECT state FROM attempt WHERE id = 1")) == (Attempt.OK if end == "ok" else Attempt.LOST)
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE
    assert scene.one("SELECT count(accepted) FROM task") == 1
    assert check(scene.desk) == []


def test_what_a_job_says_of_another_or_after_its_end_is_not_heard(bags):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.tick()
    key = scene.one("SELECT key FROM pilot").hex()
    text = compose(f"{'9' * 16}.0.{'1' * 16}", "n", [{"n": 2, "f": "claimed", "card": "c" * 16}])
    with scene.desk.write() as db:
        assert bags_of_ledger.hear(db, 1, {key: Known("running", tells=text)}) == []
        assert bags_of_ledger.hear(db, 1, {key: Known("running", tells="what")}) == []
    scene.settle()
    assert _hear(scene, ["running"]) == []
    assert scene.state(1) == Dataset.COMPLETE


@pytest.mark.parametrize("began", [False, True])
def test_what_a_job_took_with_it_goes_again_and_counts_only_if_it_began(bags, began):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.tick()
    site = scene.sites["near"]
    (job,) = site.jobs.values()
    if began:
        site.claim(site.start(job))
        scene.tick()
    site.end_job(job, "ended", 1)
    for _ in range(6):
        scene.tick(60.0)
    assert Attempt(scene.one("SELECT state FROM attempt WHERE id = 1")) == (Attempt.LOST if began else Attempt.RECALLED)
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE


def test_a_running_job_with_a_bag_is_cancelled_if_nobody_wants_its_card(bags):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    scene.tick()
    site = scene.sites["near"]
    (job,) = site.jobs.values()
    site.claim(site.start(job))
    scene.tick()
    with scene.desk.write() as db:
        pause(db, 1, "a person drains it", drain=True)
    scene.tick()
    scene.tick()
    assert job.state == "running", "what runs may end"
    scene.control(1).cancel_jobs(0, 0)
    for _ in range(6):
        scene.tick()
    assert job.state == "ended"
    assert Pilot(scene.one("SELECT state FROM pilot")) == Pilot.CANCELLED
    assert scene.states(1) == {(0, "a"): Task.CANCELLED}
    assert not scene.one("SELECT count(*) FROM attempt WHERE live = 1")


def test_a_refused_job_gives_its_card_back(bags):
    scene = bags(pilots=1)
    scene.sites["near"].submits.append("refused")
    scene.submit(1, task("a", outputs=["a.txt"]))
    for _ in range(4):
        scene.tick()
    assert Attempt(scene.one("SELECT state FROM attempt WHERE id = 1")) == Attempt.RECALLED
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE


def test_a_job_that_leaves_its_card_untaken_again_and_again_stops_the_site(bags):
    scene = bags(pilots=1)
    scene.submit(1, task("a", outputs=["a.txt"]))
    site = scene.sites["near"]
    for _ in range(300):
        scene.tick(600.0)
        for job in site.all_jobs():
            if job.state == "pending":
                site.stop(site.start(job), "idle")
                job.state = "ended"
        if scene.one("SELECT paused FROM site") is not None:
            break
    assert "did not take its card" in scene.one("SELECT paused FROM site")
    assert len(site.jobs) == 6
    scene.settle()
    assert scene.state(1) == Dataset.COMPLETE


def test_a_file_that_went_on_over_home_and_that_its_own_site_lost_is_read_from_home(make):
    """Found by a history: one child reads it elsewhere, the other where it was made."""
    scene = make(sites=("near", "far", "next"), zones={"next": "far"}, policy=replace(QUICK, stay=1.0), bags=("near",), direct=(), pilots=2)
    dataset = scene.submit(4, *SHAPES["diamond"])
    history = History(scene, dataset, 4, 300)
    for step in [*[("tick", 0.5)] * 21, ("work", "ok", 1), ("tick", 0.5), ("tick", 61.0), ("site", "lose", 1)]:
        history(step)
    finish(scene, dataset)
