"""Sites where pilots cannot be what they are elsewhere, on real batch systems: each card a batch job of its own."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.engine.adoption import adopt
from icp.ledger import views_jobs
from icp.ledger.check import check
from icp.ledger.control import Control
from icp.ledger.db import backup
from tests.lab.muons_home import PATIENCE, Muons, undisturbed, until
from tests.lab.sites import Lab, LabSite, Sshd
from tests.lab.test_pilots import Home

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED, JOBS = 20, 10


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Any]:
    made: list[Muons] = []

    def one(site: LabSite, mode: str) -> Muons:
        home = Muons(tmp_path / f"home{len(made)}", {"s": site}, jobs=JOBS, seed=SEED)
        text = (home.home / "config.toml").read_text()
        text = text.replace("[site.s]\n", f"[site.s]\n{mode}\n").replace("max = 2", "max = 8").replace("max_pending = 2", "max_pending = 8")
        if "shared" in mode:
            text = text.replace('scheduler = "slurm"', 'scheduler = "condor"')
        # everything runs there
        (home.home / "config.toml").write_text(text.replace("[site.local]\n", "[site.local]\nattributes.CPU = false\n").replace('walltime = "1 h"\n', ""))
        made.append(home)
        return home

    yield one
    for home in made:
        home.close()


@pytest.fixture(params=["nsa", "nsb"])
def cluster(request: pytest.FixtureRequest) -> LabSite:
    """Without and with accounting."""
    found: LabSite = request.getfixturevalue(request.param)
    return found


def test_muons_as_batch_jobs_of_slurm_while_some_are_cancelled(homes: Any, cluster: LabSite, tmp_path: Path) -> None:
    home = homes(cluster, 'mode = "direct"')
    with home.running():
        for _ in range(3):
            until(lambda: home.batch("s", "PENDING", "RUNNING"), "a batch job", PATIENCE)
            jobs = home.batch("s", "PENDING", "RUNNING")
            if jobs:
                cluster.inside("scancel", jobs[0])
            time.sleep(1)
    home.settle()
    home.result().assert_same(undisturbed(tmp_path / "golden", SEED, JOBS))
    ledger = home.ledger()
    try:
        assert check(ledger, deep=True) == []
    finally:
        ledger.close()
    assert home.ask("SELECT count(*) FROM pilot WHERE site = (SELECT id FROM site WHERE name = 's') AND card IS NULL") == [(0,)]
    # nothing ran in a batch job that was not there for it
    assert home.ask(
        "SELECT count(*) FROM attempt a JOIN agent g ON g.id = a.agent JOIN pilot p ON p.id = g.pilot WHERE p.card IS NOT NULL AND p.card <> a.card"
    ) == [(0,)]
    home.assert_nothing_left()


def test_a_batch_job_asks_for_what_its_card_needs_and_leaves_with_it(tmp_path: Path, broken_nsa: LabSite) -> None:
    site = broken_nsa
    home = Home(tmp_path / "home", site, "max = 3\nmax_pending = 3", 'mode = "direct"')
    try:
        home.submit(5, command="sleep 600", time_="20 min")
        home.until(lambda: len(home.queue()) == 3)
        # 50 MB, and 20 min with one before and one behind
        assert set(site.ssh("squeue --me -h -o '%C %m %l'").stdout.splitlines()) == {"1 48M 22:00"}
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 3") == 3)
        site.ssh("scancel --me")
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state IN (7, 11)") == 3)
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 3") == 3)
        Control(home.ledger, home.engine.definitions, 1, time.time()).cancel()
        home.until(home.quiet)
        assert check(home.ledger) == []
        assert home.one("SELECT count(*) FROM pilot") == 6
    finally:
        home.close()


def test_batch_jobs_of_grid_engine_each_for_one_card(tmp_path: Path, lab: Lab) -> None:
    site = lab.site("c", 13, "sge")
    site.bring_up()
    home = Home(tmp_path / "home", site, "max = 3\nmax_pending = 3", 'mode = "direct"', "sge")
    try:
        home.submit(5, command="sleep 600", time_="20 min")
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 3") == 3)
        job = home.one("SELECT batch FROM pilot WHERE live = 1 ORDER BY id")
        # 20 min with one before and one behind, and what its card needs, not a node
        asked = site.ssh(f"qstat -j {job}").stdout
        assert "h_rt=1320" in asked
        assert "parallel environment" not in asked
        site.ssh(f"qdel {job}")
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state IN (7, 11)") == 1)
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 3") == 3)
        Control(home.ledger, home.engine.definitions, 1, time.time()).cancel()
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1"))
        # a card that ends well takes its job with it
        home.submit(2, name="e")
        home.until(lambda: home.one("SELECT state FROM dataset WHERE name = 'e'") == 2)
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1"))
        assert home.one("SELECT count(*) FROM pilot WHERE card IS NULL") == 0
        assert site.ssh("qstat -u alice").stdout == ""
        assert check(home.ledger) == []
    finally:
        home.close()
        site.ssh("qdel -u alice")


# --- an HTCondor pool whose workers see nothing of the login node's files


@pytest.fixture
def pool(lab: Lab) -> Iterator[LabSite]:
    site = lab.site("f", 16, "condor", SHARED_FS="no")
    site.bring_up()
    yield site
    site.ssh("condor_rm -all")


def _queue(site: LabSite, constraint: str) -> list[str]:
    return site.ssh(f"condor_q -constraint '{constraint}' -af:j ClusterId").stdout.split()[::2]


def test_muons_on_a_pool_that_shares_no_file_system_while_jobs_are_removed(homes: Any, pool: LabSite, tmp_path: Path) -> None:
    home = homes(pool, "shared = false")
    removed = 0
    with home.running():
        for _ in range(4):
            until(lambda: _queue(pool, "JobStatus < 3") or home.complete(), "a job", PATIENCE)
            for job in _queue(pool, "JobStatus < 3")[:2]:
                removed += pool.ssh(f"condor_rm {job}").returncode == 0
            time.sleep(3)
    home.settle()
    home.result().assert_same(undisturbed(tmp_path / "golden", SEED, JOBS))
    assert removed
    ledger = home.ledger()
    try:
        assert check(ledger, deep=True) == []
    finally:
        ledger.close()
    # while its jobs were removed again and again others may have helped
    assert home.ask("SELECT count(*) > 0 FROM attempt a JOIN site s ON s.id = a.site WHERE s.name = 's' AND a.state = 5") == [(1,)]
    assert home.ask("SELECT count(*) FROM pilot WHERE bag IN (1, 2, 3)") == [(0,)]
    until(lambda: not pool.ssh("condor_q -allusers -af:j Owner").stdout.strip(), "an empty queue", PATIENCE)
    spool = home.place("s")
    assert not [path for path in spool.glob("pilots/*/*") if path.name in ("bag", "back", "back.d")]


def test_what_a_pool_without_shared_files_ran_is_told_when_the_job_ends(tmp_path: Path, pool: LabSite) -> None:
    home = Home(tmp_path / "home", pool, "max = 2\nmax_pending = 2", "shared = false", "condor")
    try:
        home.submit(2, command="sleep 15; echo it ran")
        home.until(lambda: home.one("SELECT count(*) FROM pilot WHERE state = 3") == 2)
        (job, *_) = _queue(pool, "JobStatus == 2")
        pool.ssh(f"condor_vacate_job {job}")  # begins again, or hands in what it had
        assert home.one("SELECT count(*) FROM attempt WHERE state = 0 AND live = 1") == 2
        home.until(home.done)
        assert home.all("SELECT state, bag FROM pilot") == [(5, 4)] * 2
        # killed without a word: what they did is gone, and they go again
        home.submit(1, command="sleep 600", name="e")
        home.until(lambda: home.one("SELECT count(*) FROM pilot WHERE state = 3") == 1)
        pool.ssh("condor_rm -all")
        home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 11") == 1)
        home.until(lambda: home.one("SELECT count(*) FROM pilot WHERE state = 3") == 1)
        Control(home.ledger, home.engine.definitions, 2, time.time()).cancel()
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1"))
        assert check(home.ledger) == []
    finally:
        home.close()


def test_what_is_vacated_at_once_is_told_and_done_again(tmp_path: Path, pool: LabSite) -> None:
    home = Home(tmp_path / "home", pool, "max = 2\nmax_pending = 2", "shared = false", "condor")
    try:
        home.submit(1, command="sleep 12; echo it ran")
        home.until(lambda: home.one("SELECT count(*) FROM pilot WHERE state = 3") == 1)
        (job,) = _queue(pool, "JobStatus == 2")
        time.sleep(2)
        assert pool.ssh(f"condor_vacate_job -fast {job}").returncode == 0
        home.until(home.done, 240)
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1 OR bag IN (1, 2, 3)"), 240)
        assert home.one("SELECT count(accepted) FROM task") == 1
        # the pool began it again, with all that it had taken along
        assert home.all("SELECT count(*) FROM attempt") == home.all("SELECT count(*) FROM pilot") == [(1,)]
        assert "begun 2 times" in home.one("SELECT said FROM pilot")
        assert check(home.ledger) == []
    finally:
        home.close()


def _processing(home: Home) -> int:
    return int(home.one("SELECT coalesce(sum(n), 0) FROM dataset_tally WHERE state = 3"))


def _phases(home: Home) -> list[str]:
    tasks = home.all("SELECT id FROM task WHERE state = 3 ORDER BY id")
    return [one.state for (task,) in tasks for one in views_jobs.attempts(home.db, task)[-1:]]


def _kill(site: LabSite, program: str) -> int:
    """Ends all processes of this program there at once; how many there were."""
    pids = site.inside("pgrep", "-x", program).stdout.split()
    site.inside("kill", "-9", *pids)
    return len(pids)


def test_while_a_job_with_a_bag_runs_its_phases_are_shown_whatever_dies(tmp_path: Path, pool: LabSite) -> None:
    home = Home(tmp_path / "home", pool, "max = 2\nmax_pending = 2", "shared = false", "condor")
    try:
        home.submit(2, command="sleep 40; echo it ran")
        home.until(lambda: _processing(home) == 2 and _phases(home) == ["running", "running"])
        # for people alone: what the ledger believes, and by what it settles results, is as it was
        assert home.all("SELECT state, agent FROM attempt WHERE live = 1") == [(0, None)] * 2
        assert home.one("SELECT count(*) FROM agent") == 0
        assert _kill(pool, "condor_shadow") == 2
        sshd = Sshd(pool)
        for _ in range(5):
            home.engine.tick()
        assert sshd.sessions == 5, "with one question to the batch system, in the one session of a tick"
        pool.net("down")
        home.engine.tick()
        pool.net("up")
        home.until(home.done, 240)
        assert home.all("SELECT state FROM attempt") == [(5,)] * 2, "its shadow came again, and what ran went on"
        assert home.one("SELECT count(accepted) FROM task") == 2
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1 OR bag IN (1, 2, 3)"))
        # with their machine all that they said is gone, and they are done again
        home.submit(1, command="sleep 20; echo it ran", name="e")
        home.until(lambda: _phases(home) == ["running"])
        pool.kill("node")
        home.engine.tick()
        pool.bring_up()
        home.until(home.done, 400)
        assert home.one("SELECT count(accepted) FROM task") == 3
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1 OR bag IN (1, 2, 3)"), 240)
        assert check(home.ledger) == []
    finally:
        pool.net("up")
        pool.bring_up()
        home.close()


def test_a_pool_that_lets_no_job_speak_is_as_before(tmp_path: Path, pool: LabSite) -> None:
    home = Home(tmp_path / "home", pool, "max = 2\nmax_pending = 2", "shared = false", "condor")
    pool.inside("sh", "-c", "echo ENABLE_CHIRP = False >> $(readlink -f /etc/condor/condor_config)")
    try:
        home.submit(2, command="sleep 12; echo it ran")
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, _processing(home))
            return home.done()

        home.until(over, 240)
        assert most == 0 and home.one("SELECT count(tells) FROM pilot") == 0
        # a card that waits while the pool begins anew may be called back and dealt again
        assert home.one("SELECT count(*) FROM attempt WHERE state = 5 AND void = 0") == 2
        assert check(home.ledger) == []
    finally:
        pool.bring_up()
        home.close()


@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_a_backup_takes_up_the_jobs_that_are_out_with_their_cards(tmp_path: Path, pool: LabSite, known: bool) -> None:
    home = Home(tmp_path / "home", pool, "max = 3\nmax_pending = 3", "shared = false", "condor")
    try:
        home.submit(3, command="sleep 20; echo it ran")
        if known:
            home.until(lambda: home.one("SELECT count(*) FROM pilot") == 3)
        backup(home.ledger, tmp_path / "backup.sqlite")
        home.until(lambda: home.one("SELECT count(*) FROM pilot WHERE state = 3") == 3)
        # one is over, and not gathered yet
        pool.ssh(f"condor_vacate_job {_queue(pool, 'JobStatus == 2')[0]}")
        home.engine.close()
        home.ledger.close()
        path = home.config.ledger
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        shutil.copy(tmp_path / "backup.sqlite", path)
        home.open()
        (done,) = [one for one in adopt(home.ledger, home.config) if one.site == "s"]
        assert (done.remade, done.gone) == (0 if known else 3, 0)
        home.until(home.done, 240)
        home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1 OR bag IN (1, 2, 3)"), 240)
        assert home.one("SELECT count(accepted) FROM task") == 3
        assert home.one("SELECT count(*) FROM attempt WHERE state = 5") == 3
        # but for the vacated one, which may have been done again, no job ran beside those that were out
        assert home.one("SELECT count(*) FROM pilot") <= 4
        assert check(home.ledger) == []
    finally:
        home.close()


def test_such_a_pool_is_added_and_checked_as_it_is(pool: LabSite, tmp_path: Path, icp: Any) -> None:
    (tmp_path / "config.toml").write_text(f'[ssh]\nconfig = "{pool.lab.ssh_config}"\n')
    got = icp("site", "add", pool.name, "--json", ICP_HOME=str(tmp_path))
    assert got.rc == 0, got.err
    assert json.loads(got.out)["keys"]["shared"] is False
    got = icp("site", "check", pool.name, "--timeout", 150, ICP_HOME=str(tmp_path), timeout=200)
    assert got.rc == 0, got.out + got.err
    assert "what it makes comes back" in got.out
    assert pool.ssh(f"ls /home/alice/.icp/{pool.name}/check").stdout == ""
