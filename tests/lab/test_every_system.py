"""The main job at a cluster of every batch system at once, each made to fail in every way: same bytes, nobody left, and the accounts agree."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from icp.model.batch import name_pattern
from tests.lab.muons_home import MANY, MUONS, PATIENCE, SEED, Muons, Result, until
from tests.lab.queues import queue
from tests.lab.sites import Lab, LabSite, Sshd

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

JOBS = 24
Golden = Callable[[int], Result]


@pytest.fixture
def sites(lab: Lab, broken_nsb: LabSite) -> Iterator[dict[str, LabSite]]:
    found = {"slurm": broken_nsb, "sge": lab.site("c", 13, "sge"), "condor": lab.site("d", 14, "condor"), "torque": lab.site("e", 15, "torque")}
    for one in found.values():
        one.bring_up()
        queue(one).cancel_all()
    yield found
    for one in found.values():
        one.well()


@pytest.fixture
def home(tmp_path: Path, sites: dict[str, LabSite]) -> Iterator[Muons]:
    # tasks that take long enough, and little of them waits at each site: there is work for all
    slow = shutil.copytree(MUONS.parent, tmp_path / "muons") / MUONS.name
    slow.write_text(re.sub(r'^(command += ")python3', r"\1sleep 3; python3", MUONS.read_text(), flags=re.MULTILINE))
    one = Muons(tmp_path / "home", sites, jobs=JOBS, seed=SEED, policy="depth = 10", idle=60, steering=slow)
    yield one
    one.close()


class Failing:
    """What one site goes through, a thing at a time; each is over when it returns."""

    def __init__(self, home: Muons, name: str) -> None:
        self.home, self.name, self.site = home, name, home.sites[name]

    def scheduler_dies(self) -> None:
        self.site.kill("scheduler")
        time.sleep(4)
        self.site.bring_up()

    def sshd_dies(self) -> None:
        self.site.kill("sshd")
        time.sleep(4)
        self.site.bring_up()

    def link_is_down(self) -> None:
        self.site.net("down")
        time.sleep(8)
        self.site.net("up")

    def disk_is_full(self) -> None:
        self.home.fill(self.name, 4)

    def noise_is_printed(self) -> None:
        self.site.quirk("banner", "on")
        self.site.quirk("noisyrc", "on")
        time.sleep(5)
        self.site.quirk("banner", "off")
        self.site.quirk("noisyrc", "off")

    def login_is_slow(self) -> None:
        self.site.quirk("slowlogin", 2)
        time.sleep(6)
        self.site.quirk("slowlogin", "off")

    @property
    def all(self) -> list[Callable[[], None]]:
        return [self.scheduler_dies, self.sshd_dies, self.link_is_down, self.disk_is_full, self.noise_is_printed, self.login_is_slow]


def test_every_system_fails_in_every_way_at_once(home: Muons, golden: Golden) -> None:
    for name in home.sites:
        home.small_disk(name)
    failing = [Failing(home, name) for name in home.sites]
    with home.running(), ThreadPoolExecutor(len(failing)) as pool:
        until(lambda: all_there(home), "an agent at every site", PATIENCE)
        for turn in range(len(failing[0].all)):
            home.busy()
            # each site fails in another way than its neighbours
            for done in [pool.submit(one.all[(turn + place) % len(one.all)]) for place, one in enumerate(failing)]:
                done.result()
    home.assert_all(golden(JOBS), worked=True)
    accounts_agree(home)


def all_there(home: Muons) -> bool:
    """Whether an agent is at each site, and there is work for it."""
    home.busy()
    time.sleep(0.2)
    return set(home.ask("SELECT s.name FROM agent a JOIN site s ON s.id = a.site WHERE a.live = 1")) == {("local",), *((name,) for name in home.sites)}


def accounts_agree(home: Muons) -> None:
    """What the ledger has of each site is within 5 % of what that site's own accounting says."""
    deadline = time.monotonic() + PATIENCE
    for name, site in home.sites.items():
        while True:
            pattern = name_pattern(home.uuid)
            used = queue(site).used()
            theirs = {match[1]: one.core_seconds for one in used or () if (match := pattern.match(one.name))}
            ours = dict(home.ask(
                "SELECT lower(hex(p.key)), p.core_seconds FROM pilot p JOIN site s ON s.id = p.site WHERE s.name = ? AND p.core_seconds IS NOT NULL", name
            ))  # fmt: skip
            if used is not None and theirs.keys() <= ours.keys() and abs(sum(ours.values()) - sum(theirs.values())) <= 0.05 * sum(theirs.values()):
                assert sum(theirs.values()) > 0, f"nothing was used at {name}"
                break
            if used is None:
                assert site.kind == "torque"  # these commands tell it of jobs that are still listed only; test_queues holds it against those
                break
            assert time.monotonic() < deadline, f"{name}: the ledger has {ours}, accounting {theirs}"
            home.once()
            time.sleep(2)


def test_steady_tick_is_one_session_whatever_the_batch_system(tmp_path: Path, sites: dict[str, LabSite]) -> None:
    steering = tmp_path / "many.toml"
    steering.write_text(MANY.format(jobs=3000, nap=2))
    home = Muons(tmp_path / "home", sites, jobs=3000, seed=SEED, steering=steering, idle=100)
    try:
        seen = {name: Sshd(site) for name, site in sites.items()}
        deadline = time.monotonic() + PATIENCE
        while home.ask("SELECT count(DISTINCT site) FROM agent WHERE live = 1")[0][0] < 5:
            assert time.monotonic() < deadline, home.story()
            assert home.once() == 0
        assert {one.connections for one in seen.values()} == {1}
        for name, site in sites.items():
            queue(site).cancel(home.batch(name))
        seen = {name: Sshd(site) for name, site in sites.items()}
        before = home.pilots()
        for _ in range(100):
            opened = {name: one.sessions for name, one in seen.items()}
            assert home.once() == 0
            # none where nothing of ours is for a moment
            assert {one.sessions - opened[name] for name, one in seen.items()} <= {0, 1}
            after = home.pilots()
            if min(one.sessions for one in seen.values()) >= 8 and all(after[name] > before[name] for name in sites):
                break
            time.sleep(1)
        else:
            pytest.fail(f"no pilot was submitted in these ticks: {before}, {after}\n{home.story()}")
        assert {one.connections for one in seen.values()} == {0}, "the connection of the first tick"
    finally:
        home.close()
