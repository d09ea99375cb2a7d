"""Pilots on a real SLURM: several nodes, requeued, cancelled, refused, submitted twice, withdrawn, without a Python."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp import config
from icp.engine.submission import prepare, submit
from icp.engine.tick import Engine
from icp.ledger import sites
from icp.ledger.check import check
from icp.ledger.control import Control
from icp.ledger.db import open_ledger
from icp.states import Agent, Pilot
from tests.lab.sites import LabSite

pytestmark = pytest.mark.lab


class Home:
    """One person's engine with one site in the lab, ticked by hand."""

    def __init__(self, folder: Path, site: LabSite, pilot: str, more: str = "", scheduler: str = "slurm") -> None:
        self.folder, self.lab = folder, site
        folder.mkdir(exist_ok=True)
        root = f"/home/alice/.icp/{folder.name}-{os.getpid()}"
        (folder / "config.toml").write_text(
            f'[ssh]\nconfig = "{site.lab.ssh_config}"\n[site.s]\nhost = "{site.name}"\nscheduler = "{scheduler}"\n'
            f'root = "{root}"\n{more}\n[site.s.pilot]\n{pilot}\n'
        )
        self.config = config.load({**os.environ, "ICP_HOME": str(folder)})
        self.open()

    def open(self) -> None:
        self.ledger = open_ledger(self.config.ledger, create=True, now=time.time())
        self.ledger.take_lease(time.time())
        self.db = self.ledger.db
        self.engine = Engine(self.ledger, self.config)

    def submit(self, jobs: int, command: str = "true", name: str = "d", time_: str = "1 min") -> None:
        path = self.folder / f"{name}.toml"
        asked = f'{{ time = "{time_}", memory = "50 MB", disk = "10 MB" }}'
        path.write_text(f'name = "{name}"\njobs = {jobs}\n[task.a]\ncommand = "{command}"\nresources = {asked}\n')
        submit(self.ledger, prepare(path, sites=self.config.sites.values()), time.time())

    def until(self, wanted: Callable[[], Any], seconds: float = 120, tick: float = 0.5) -> Any:
        end = time.monotonic() + seconds
        while True:
            self.engine.tick()
            found = wanted()
            if found:
                return found
            assert time.monotonic() < end, self.all("SELECT id, state, word, said, reason, others FROM pilot") + self.all("SELECT paused, reason FROM site")
            time.sleep(tick)

    def all(self, query: str, *values: Any) -> list[Any]:
        return self.db.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        row = self.db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def done(self) -> bool:
        return not self.one("SELECT count(*) FROM dataset WHERE state <> 2")

    def quiet(self) -> bool:
        """No pilot is live, and none of ours is in the queue."""
        return not self.one("SELECT count(*) FROM pilot WHERE live = 1") and not self.queue()

    def queue(self) -> list[str]:
        name = f"icp-{self.ledger.uuid[:8]}"
        listed = self.lab.ssh("squeue --me -h -o '%i %T %j'").stdout.splitlines()
        return [line for line in listed if name in line]

    def paused(self) -> str | None:
        return self.one("SELECT paused FROM site")

    def close(self) -> None:
        self.engine.close()
        self.ledger.close()
        self.lab.ssh("scancel --me")


@pytest.fixture
def home(tmp_path: Path, nsa: LabSite) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def make(pilot: str, more: str = "") -> Home:
        made.append(Home(tmp_path / f"h{len(made)}", nsa, pilot, more))
        return made[-1]

    yield make
    for one in made:
        wrong = check(one.ledger)
        one.close()
        assert not wrong


SMALL = 'cpus = 2\nmemory = "400 MB"\nwalltime = "10 min"\nidle = 3\n'


def test_pilot_of_two_nodes_has_an_agent_on_each_and_ends_when_both_have(home: Callable[..., Home]) -> None:
    one = home(SMALL + "nodes = 2")
    one.submit(8, "sleep 4")
    one.until(one.done)
    # the lab's nodes have one host name: the node's index is in an agent's
    assert {name.split(".")[1] for (name,) in one.all("SELECT name FROM agent")} == {"0", "1"}
    one.until(one.quiet)
    assert one.all("SELECT state FROM pilot") == [(Pilot.DONE,)]
    assert set(one.all("SELECT state FROM agent")) == {(Agent.ENDED,)}
    assert one.one("SELECT count(*) FROM attempt") == 8


def test_requeued_pilot_says_duplicate_start_and_nothing_is_lost(home: Callable[..., Home]) -> None:
    one = home(SMALL)
    one.submit(3, "sleep 15")
    one.until(lambda: one.one("SELECT count(*) FROM attempt WHERE state = 3"))
    job = one.one("SELECT batch FROM pilot")
    assert one.lab.ssh(f"scontrol update jobid={job} requeue=1 && scontrol requeue {job}").returncode == 0
    one.until(one.done, 240)
    assert one.one("SELECT count(*) FROM task WHERE state = 4") == 3
    one.until(one.quiet)


def test_pilot_that_somebody_cancels_gives_its_tasks_back(home: Callable[..., Home]) -> None:
    one = home(SMALL)
    one.submit(2, "sleep 12")
    one.until(lambda: one.one("SELECT count(*) FROM attempt WHERE state = 3"))
    one.lab.ssh(f"scancel {one.one('SELECT batch FROM pilot')}")
    one.until(one.done)
    assert one.one("SELECT count(*) FROM pilot") >= 2
    one.until(one.quiet)


@pytest.mark.parametrize(("pilot", "said"), [
    ('partition = "nosuch"', "no such partition"), ('account = "nosuch"', "account"), ("memory = \"9 TB\"", "no node of the partition has so much"),
])  # fmt: skip
def test_site_that_refuses_is_paused_with_a_sentence_and_resume_asks_again(nsb: LabSite, tmp_path: Path, pilot: str, said: str) -> None:
    one = Home(tmp_path / "h", nsb, f"walltime = 600\n{pilot}")
    one.submit(1)
    why = one.until(one.paused)
    assert said in why and "pilot." in why
    assert one.one("SELECT count(*) FROM pilot") == 1
    one.engine.tick()
    assert one.one("SELECT count(*) FROM pilot") == 1
    with one.ledger.write() as db:
        sites.resume(db, 1)
    one.until(one.paused)
    assert one.one("SELECT count(*) FROM pilot") == 2
    one.close()


def test_walltime_over_the_limit_pauses_the_site_when_it_was_said_for_ten_minutes(home: Callable[..., Home]) -> None:
    one = home('partition = "debug"\nwalltime = "99 h"\ncpus = 1')
    one.submit(1)
    one.until(lambda: one.one("SELECT never FROM pilot WHERE said = 'PartitionTimeLimit'"))
    assert one.paused() is None
    with one.ledger.write() as db:
        db.execute("UPDATE pilot SET never_since = never_since - 600")
    why = one.until(one.paused)
    assert "PartitionTimeLimit" in why and "site.s.pilot.walltime" in why
    one.until(one.quiet)


def test_node_without_python_pauses_the_site_and_says_what_to_set(home: Callable[..., Home]) -> None:
    # no Python starts with so little memory, wherever it is
    one = home(SMALL, 'setup = ["ulimit -v 9000"]')
    one.submit(1)

    def next_one() -> Any:
        with one.ledger.write() as db:
            db.execute("UPDATE site SET hold = 0")
        return one.paused()

    why = one.until(next_one)
    assert "no Python 3.6 or newer" in why and "site.s.python" in why
    assert one.one("SELECT count(*) FROM pilot") == 2
    one.until(one.quiet)


def test_what_a_pilot_that_died_young_printed_last_is_evidence(home: Callable[..., Home]) -> None:
    one = home(SMALL, 'setup = ["echo the license server is down >&2; exit 3"]')
    one.submit(1)
    reason = one.until(lambda: one.one("SELECT reason FROM pilot WHERE state = ?", int(Pilot.FAILED)))
    assert "exit 3" in reason or "FAILED" in reason
    assert "the license server is down" in reason
    assert one.one("SELECT hold FROM site") > time.time()
    one.engine.tick()
    assert one.one("SELECT count(*) FROM pilot") == 1


def test_second_job_of_a_pilot_is_cancelled(home: Callable[..., Home]) -> None:
    one = home(SMALL)
    one.submit(1, "sleep 20")
    one.until(lambda: one.one("SELECT count(*) FROM attempt WHERE state = 3"))
    (line,) = one.queue()
    twin = one.lab.ssh(f"sbatch --parsable -H -o /dev/null -J {line.split()[2]} --wrap 'sleep 200'").stdout.strip()
    one.until(lambda: not any(line.startswith(twin + " ") for line in one.queue()))
    one.until(one.done)
    assert one.one("SELECT count(*) FROM attempt") == 1
    one.until(one.quiet)


def test_pilots_that_wait_for_nothing_are_withdrawn(home: Callable[..., Home]) -> None:
    one = home('cpus = 8\nwalltime = "10 min"\nidle = 3\nmax = 6\nmax_pending = 4\nmemory = "400 MB"')
    one.submit(40, "sleep 1")
    one.until(one.done, 200)
    one.until(one.quiet)
    ends = {Pilot(state).name for (state,) in one.all("SELECT state FROM pilot")}
    assert ends <= {"DONE", "CANCELLED"}


def test_finished_dataset_with_all_nodes_taken_leaves_no_job(home: Callable[..., Home]) -> None:
    one = home(SMALL)
    job = one.lab.ssh("sbatch --parsable -o /dev/null -N 2 --exclusive --wrap 'sleep 280'").stdout.strip()
    one.until(lambda: "RUNNING" in one.lab.ssh(f"squeue -h -j {job} -o %T").stdout)
    one.submit(1)
    one.until(lambda: one.one("SELECT said FROM pilot WHERE word = 'pending'"))
    Control(one.ledger, one.engine.definitions, 1, time.time()).cancel()
    one.until(one.quiet)
    assert one.all("SELECT state FROM pilot") == [(Pilot.CANCELLED,)]
    assert json.loads(one.one("SELECT json_group_array(reason) FROM pilot")) == ["there was no work for it any more"]
