"""The main job at three sites while everything on the way dies: its result must be that of an undisturbed run on this machine alone."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.states import Agent, Pilot
from tests.lab.disturb import Disturber
from tests.lab.muons_home import MANY, PATIENCE, SEED, Muons, Result, until
from tests.lab.sites import LabSite, Sshd

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

JOBS, MANY_JOBS = 12, 200
Make = Callable[..., Muons]
Golden = Callable[[int], Result]


@pytest.fixture
def make(tmp_path: Path, broken_nsa: LabSite, broken_nsb: LabSite) -> Iterator[Make]:
    homes: list[Muons] = []

    def one(sites: dict[str, LabSite] | None = None, **options: Any) -> Muons:
        options = {"jobs": JOBS, "seed": SEED, "gpu": "nsb" if sites is None else None, **options}
        homes.append(Muons(tmp_path / f"home{len(homes)}", sites or {"nsa": broken_nsa, "nsb": broken_nsb}, **options))
        return homes[-1]

    yield one
    for home in homes:
        home.close()


def many(folder: Path, jobs: int, nap: float) -> Path:
    """A steering file of so many little tasks."""
    path = folder / "many.toml"
    path.write_text(MANY.format(jobs=jobs, nap=nap))
    return path


@pytest.mark.timeout(1500)
def test_three_sites_undisturbed(make: Make, golden: Golden) -> None:
    home = make(jobs=MANY_JOBS)
    home.finish_run(patience=900)
    home.assert_all(golden(MANY_JOBS), worked=True)


def test_engine_killed_fifty_times(make: Make, golden: Golden) -> None:
    home, chance = make(), random.Random(SEED)
    home.killed(50, lambda: chance.uniform(0, 1.5))
    home.finish_run()
    home.assert_all(golden(JOBS))


def test_batch_system_ends_pilots_starts_them_again_and_forgets(make: Make, golden: Golden) -> None:
    home = make()
    disturber = Disturber(home, SEED)
    with home.running():
        for one in (disturber.cancel_pilots, disturber.requeue_pilot, disturber.kill_node, disturber.kill_scheduler):
            one()
    assert {"all pilots cancelled", "pilot requeued", "nodes killed", "slurmctld killed"} <= {word for word, n in home.count.items() if n}
    home.assert_all(golden(JOBS))


def test_sshd_and_clients_and_shared_connections_die(make: Make, golden: Golden) -> None:
    home = make()
    disturber = Disturber(home, SEED)
    with home.running():
        deadline = time.monotonic() + PATIENCE
        while home.count["ssh client killed"] < 6 or home.count["shared connection killed"] < 2:
            assert time.monotonic() < deadline, home.story()
            disturber.kill_client()
            disturber.kill_master()
        disturber.kill_sshd()
        home.progress(0.2)
    home.assert_all(golden(JOBS))


@pytest.mark.parametrize("seconds", [30, 150])
def test_link_down_for_a_while_and_for_longer_than_every_timeout(make: Make, golden: Golden, seconds: float) -> None:
    home = make()
    with home.running():
        home.running_pilot("nsb")
        home.sites["nsb"].net("down")
        time.sleep(seconds)
        home.sites["nsb"].net("up")
    home.assert_all(golden(JOBS))
    assert not home.ask("SELECT name FROM agent WHERE fence > 0")


def test_disk_full_for_a_while(make: Make, golden: Golden) -> None:
    home = make()
    home.small_disk("nsa")
    home.small_disk("nsb")
    disturber = Disturber(home, SEED)
    with home.running():
        for _ in range(3):
            disturber.fill_disk()
    assert home.count["disk full"] >= 1
    home.assert_all(golden(JOBS))


def test_banner_noise_and_slow_login(make: Make, golden: Golden) -> None:
    home = make()
    for site in home.sites.values():
        for quirk, how in (("banner", "on"), ("noisyrc", "on"), ("slowlogin", 1)):
            site.quirk(quirk, how)
    home.finish_run()
    home.assert_all(golden(JOBS))


def test_laptop_that_sleeps_repeats_nothing_and_loses_nobody(make: Make, golden: Golden, tmp_path: Path) -> None:
    home = make(walltime="20 h", idle=15)
    moved = tmp_path / "moved"
    engine = home.process(sys.executable, str(Path(__file__).with_name("sleeping_engine.py")), str(moved))
    try:
        with home.watched():
            home.running_pilot("nsb")
            os.kill(engine.pid, signal.SIGSTOP)
            time.sleep(3)
            moved.write_text(str(12 * 3600))
            os.kill(engine.pid, signal.SIGCONT)
            until(home.complete, "the end", PATIENCE)
            until(home.at_rest, "the end of all pilots", PATIENCE)
            assert engine.poll() is None
    finally:
        engine.kill()
        engine.wait()
    assert home.ask("SELECT count(*) FROM attempt") == home.ask("SELECT count(*) FROM task")
    assert home.ask("SELECT DISTINCT state, fence FROM agent") == [(int(Agent.ENDED), 0)]
    assert {row[0] for row in home.ask("SELECT DISTINCT state FROM pilot")} <= {int(Pilot.DONE), int(Pilot.CANCELLED)}
    home.assert_all(golden(JOBS))


def test_cron_alone_is_enough_and_two_at_once_do_no_harm(make: Make, golden: Golden) -> None:
    home = make()
    deadline = time.monotonic() + 2 * PATIENCE
    with home.watched():
        while not home.at_rest():
            assert time.monotonic() < deadline, home.story()
            both = [home.engine("--once") for _ in range(2)]
            assert [one.wait(PATIENCE) for one in both] == [0, 0]
            time.sleep(2)
    home.assert_all(golden(JOBS))


def test_steady_tick_opens_one_session_for_each_site_over_one_connection(make: Make, tmp_path: Path) -> None:
    home = make(steering=many(tmp_path, 400, 2), jobs=400, gpu=None, idle=100)
    seen = {name: Sshd(site) for name, site in home.sites.items()}
    deadline = time.monotonic() + PATIENCE
    while home.ask("SELECT count(DISTINCT site) FROM agent WHERE live = 1")[0][0] < 3:
        assert time.monotonic() < deadline, home.story()
        assert home.once() == 0
    assert {one.connections for one in seen.values()} == {1}
    home.sites["nsb"].inside("scancel", *home.batch("nsb"))
    seen = {name: Sshd(site) for name, site in home.sites.items()}
    before = home.ask("SELECT count(*) FROM pilot")[0][0]
    for number in range(1, 9):
        assert home.once() == 0
        assert {name: one.sessions for name, one in seen.items()} == dict.fromkeys(home.sites, number)
        time.sleep(1)
    assert {one.connections for one in seen.values()} == {0}, "the connection of the first tick"
    assert home.ask("SELECT count(*) FROM pilot")[0][0] > before, "a pilot was submitted in these ticks"


def test_thousand_finished_tasks_are_one_question_and_one_answer_over_a_slow_link(make: Make, broken_nsb: LabSite, tmp_path: Path) -> None:
    home = make({"nsb": broken_nsb}, steering=many(tmp_path, 1000, 0), jobs=1000, gpu="nsb")
    deadline = time.monotonic() + PATIENCE
    while not home.all_claimed_and_done("nsb", 1000):
        assert time.monotonic() < deadline, home.story()
        if home.attempts() < 1000 or not home.batch("nsb", "RUNNING"):
            home.once()
        time.sleep(1)
    broken_nsb.net("delay", 40)
    seen, before = Sshd(broken_nsb), home.ok()
    assert home.once() == 0
    assert (seen.sessions, seen.connections) == (1, 0)
    assert home.ok() == 1000
    assert home.ok() - before > 500, "most of them came in this tick"


def test_partitions_of_a_cluster_share_connection_and_session(make: Make, broken_nsa: LabSite, tmp_path: Path) -> None:
    partitions = {name: f'partition = "{name}"' for name in ("normal", "debug")}
    home = make(dict.fromkeys(partitions, broken_nsa), pilot=partitions, walltime="5 min", steering=many(tmp_path, 60, 0.3), jobs=60)
    seen = Sshd(broken_nsa)
    assert home.once() == 0
    shipped = seen.sessions
    for number in range(1, 4):
        time.sleep(1)
        assert home.once() == 0
        assert (seen.sessions - shipped, seen.connections) == (number, 1)
    home.finish_run()
    home.settle()
    assert home.ok() == 60
    assert seen.connections == 1
    assert {row[0] for row in home.ask("SELECT DISTINCT s.name FROM attempt a JOIN site s ON s.id = a.site")} >= {"normal", "debug"}
    home.assert_nothing_left()


def test_everything_at_random(make: Make, golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("ICP_TORTURE_SEED") or SEED)
    with capsys.disabled():
        sys.stdout.write(f"\neverything at random: ICP_TORTURE_SEED={seed}\n")
    at_random(make(), golden(JOBS), seed, kills=10, rounds=1)


@pytest.mark.torture
@pytest.mark.timeout(5000)
def test_everything_at_random_and_for_long(make: Make, golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("ICP_TORTURE_SEED") or secrets.randbits(32))
    with capsys.disabled():
        sys.stdout.write(f"\neverything at random, for long: ICP_TORTURE_SEED={seed}\n")
        home = make(jobs=200)
        at_random(home, golden(200), seed, kills=50, rounds=5)
        sys.stdout.write(f"{dict(home.count)}\n")


def at_random(home: Muons, golden: Result, seed: int, kills: int, rounds: int) -> None:
    """Every disturbance so often, in an order by chance, while the engine is killed again and again."""
    for name in home.sites:
        home.small_disk(name)
    disturber = Disturber(home, seed)
    doings = disturber.everything() * rounds
    disturber.random.shuffle(doings)
    failed: list[BaseException] = []

    def disturb() -> None:
        try:
            for one in doings:
                one()
        except BaseException as error:  # noqa: BLE001 -- raised where the test sees it
            failed.append(error)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        # so often at least; some lives are long enough for pilots to begin
        home.killed(kills, lambda: disturber.random.choice([disturber.random.uniform(0, 1.5), disturber.random.uniform(0, 10)]), thread.is_alive)
    finally:
        thread.join()
    if failed:
        raise failed[0]
    home.finish_run()
    home.assert_all(golden)
