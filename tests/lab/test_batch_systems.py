"""Grid Engine, HTCondor, and Torque's commands, real ones: pilots by our own rendering over ssh, from the submit to their end; and PBS by hand."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icp.backends.base import Result, Unknown
from icp.backends.batch import system
from icp.backends.openssh import OpenSSH
from icp.backends.ssh_socket import control_folder
from icp.config.keys import checked
from icp.model.batch import Known, NotSubmitted, Submitted, Unclear, Wanted, batch_name
from icp.places import places
from tests.lab.sites import Lab, LabSite

pytestmark = pytest.mark.lab

LEDGER = "5151feed-0000-0000-0000-000000000000"
KINDS = {"sge": ("c", 13), "condor": ("d", 14), "torque": ("e", 15)}
CLEAR = {"sge": "qdel -u $USER", "condor": "condor_rm -all", "torque": "qstat | awk 'NR > 2 {print $1}' | xargs -rn 1 qdel"}
PBS = os.environ.get("ICP_TEST_PBS")
"""A host of somebody's with PBS Professional or OpenPBS, as ssh knows it: the tests are for it too, but those that kill."""
PATIENCE = 90
"""Seconds: HTCondor negotiates now and then only, and an execd that lost its qmaster takes half a minute to find the next."""


@dataclass(frozen=True)
class Theirs:
    """A site that is none of the lab's: nothing of it is killed."""

    name: str
    ssh_config: Path | None = None if "ICP_TEST_SSH_CONFIG" not in os.environ else Path(os.environ["ICP_TEST_SSH_CONFIG"])

    def bring_up(self) -> None: ...

    def kill(self, part: str) -> None:
        pytest.skip(f"somebody else's {part} is not killed")


class Cluster:
    """A cluster as the engine sees it: pilots in, states out."""

    def __init__(self, site: LabSite | Theirs, kind: str, first: int) -> None:
        self.site, self.batch, self.next = site, system(kind), first
        self.ssh_config = site.ssh_config if isinstance(site, Theirs) else site.lab.ssh_config
        self.config = f'[ssh]\nconfig = "{self.ssh_config}"\n' if self.ssh_config else ""
        self.over = OpenSSH(site.name, control_folder(places().state), config=self.ssh_config)
        self.home = self.run(["/bin/sh", "-c", "cd && pwd"])[1].strip()
        self.jobs: list[str] = []

    def run(self, argv: list[str], text: str = "") -> tuple[int, str, str]:
        outcome = self.over.run(argv, text.encode(), 60)
        assert isinstance(outcome, Result)
        return outcome.code, outcome.out.decode(), outcome.err.decode()

    def pilot(self) -> str:
        self.next += 1
        return f"{self.next:016x}"

    def folder(self, pilot: str) -> str:
        return f"{self.home}/.icp-tests/{pilot}"

    def submit(self, pilot: str, body: str = "exec sleep 300", *, again: str = "", **asked: Any) -> Submitted | NotSubmitted | Unclear:
        """``again``: another folder, where a pilot is submitted twice."""
        folder = self.folder(pilot) + again
        captured = self.batch.render(Wanted(batch_name(LEDGER, pilot), folder, **{"walltime": 600, **asked}))
        assert self.run(["mkdir", "-p", folder])[0] == 0
        for name, text in {**captured.files, self.batch.body: f"#!/bin/sh\necho began\n{body}\n"}.items():
            assert self.run(["/bin/sh", "-c", f"cat > {shlex.quote(f'{folder}/{name}')}"], text)[0] == 0
        words = [word.replace("{dir}", folder) for word in captured.argv]
        code, out, err = self.run(["/bin/sh", "-c", f"cd {folder} && exec {shlex.join(words)}"])
        got = self.batch.receipt(code, out, err, {})
        self.jobs += [got.job] if isinstance(got, Submitted) else []
        return got

    def submitted(self, pilot: str, body: str = "exec sleep 300", **asked: Any) -> str:
        got = self.submit(pilot, body, **asked)
        assert isinstance(got, Submitted), got
        return got.job

    def states(self, left: dict[str, str] | None = None) -> dict[str, Known] | Unknown:
        asked = self.batch.questions(LEDGER, list((left or {}).values()), None)
        return self.batch.states(LEDGER, [self.run(words) for words in asked], left or {})

    def until(self, pilot: str, wanted: Callable[[Known | None], object], job: str = "") -> Known:
        """The state, once it is as wanted. ``job``: accounting is asked for it, once it has left the listing."""
        end = time.monotonic() + PATIENCE
        while True:
            found = self.states()
            if job and not isinstance(found, Unknown) and pilot not in found:
                found = self.states({pilot: job})
            # a busy HTCondor fails to know somebody now and then: that tells nothing, and is asked again
            known = None if isinstance(found, Unknown) else found.get(pilot)
            if not isinstance(found, Unknown) and wanted(known):
                return known or Known("absent")
            assert time.monotonic() < end, (found, self.run(["/bin/sh", "-c", f"tail -n 5 {self.folder(pilot)}/std*"]))
            time.sleep(0.5)

    def cancel(self, pilot: str, *jobs: str) -> tuple[int, str, str]:
        return self.run(self.batch.cancel(batch_name(LEDGER, pilot), list(jobs), {}))


@pytest.fixture(params=[*KINDS, *(["pbs"] if PBS else [])])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "pbs":
        assert PBS
        one = Cluster(Theirs(PBS), "pbs", time.time_ns() // 1000)
        yield one
        one.run(["/bin/sh", "-c", 'for job; do qdel "$job"; done; rm -rf .icp-tests', "sh", *one.jobs])
    else:
        lab: Lab = request.getfixturevalue("lab")
        letter, host = KINDS[request.param]
        site = lab.site(letter, host, request.param)
        site.bring_up()
        one = Cluster(site, request.param, time.time_ns() // 1000)
        yield one
        site.bring_up()
        one.run(["/bin/sh", "-c", CLEAR[request.param]])
    one.over.close()


def running(known: Known | None) -> bool:
    return known is not None and known.word == "running"


def over(known: Known | None) -> bool:
    return known is None or known.word == "ended"


def test_pilot_runs_writes_into_its_folder_and_is_cancelled(cluster: Cluster) -> None:
    pilot = cluster.pilot()
    job = cluster.submitted(pilot, f'echo "$PWD $HOME" >&2; : >{cluster.folder(pilot)}/began; trap "" HUP; exec sleep 300', cpus=2, memory=10**9)
    known = cluster.until(pilot, running)
    assert known.job == job
    assert known.exit is None
    end = time.monotonic() + PATIENCE
    while cluster.run(["test", "-e", f"{cluster.folder(pilot)}/began"])[0] != 0:
        # a batch system says of a job that it runs before it does
        assert time.monotonic() < end
        time.sleep(0.5)
    assert cluster.cancel(pilot, job)[0] == 0
    cluster.until(pilot, over)
    end = time.monotonic() + PATIENCE
    while "began" not in cluster.run(["cat", f"{cluster.folder(pilot)}/stdout"])[1]:
        assert time.monotonic() < end
        time.sleep(0.5)
    # nobody says later that it went well
    assert cluster.until(pilot, over, job).exit != 0


@pytest.mark.parametrize("code", [0, 7])
def test_end_is_known_with_its_exit_and_what_it_used(cluster: Cluster, code: int) -> None:
    pilot, other = cluster.pilot(), cluster.pilot()
    cluster.submitted(other)
    job = cluster.submitted(pilot, f"sleep 2; exit {code}", cpus=2)
    known = cluster.until(pilot, lambda known: known and known.word == "ended", job)
    if cluster.batch.name == "torque":
        assert known.exit is None  # these commands tell none
        return
    assert known.exit == code
    assert known.core_seconds is not None
    assert 2 <= known.core_seconds <= 60
    # beside a job that is active it stays what it is
    assert cluster.until(pilot, lambda known: known, job) == known


def test_refusal_is_a_sentence_with_a_remedy(cluster: Cluster) -> None:
    asked = {"constraint": "HasIt && ("} if cluster.batch.name == "condor" else {"partition": "nosuch"}
    refused = cluster.submit(cluster.pilot(), **asked)
    assert isinstance(refused, NotSubmitted)
    assert not refused.again
    assert "set pilot.partition" in refused.hint or "correct pilot.constraint" in refused.hint
    assert cluster.states() == {} or not isinstance(cluster.states(), Unknown)


def test_scheduler_that_is_down_tells_nothing(cluster: Cluster) -> None:
    pilot = cluster.pilot()
    job = cluster.submitted(pilot, "sleep 1; exit 0")
    cluster.until(pilot, lambda known: known is None or known.word == "ended", job)
    cluster.site.kill("scheduler")
    found = cluster.states({pilot: job})
    assert isinstance(found, Unknown)
    assert found.why
    assert cluster.cancel(pilot, job)[0] != 0
    refused = cluster.submit(cluster.pilot())
    assert isinstance(refused, NotSubmitted)
    assert refused.again
    assert "cannot be reached" in refused.why
    cluster.site.bring_up()
    assert not isinstance(cluster.states(), Unknown)


def test_job_that_is_held_says_what_lets_it_go(cluster: Cluster) -> None:
    kind, pilot = cluster.batch.name, cluster.pilot()
    if kind == "torque":
        pytest.skip("Torque's commands over SLURM show a held job as queued")
    job = cluster.submitted(pilot, cpus=64)  # more than there are: it waits
    cluster.until(pilot, lambda known: known and known.word == "pending")
    assert cluster.run(["condor_hold" if kind == "condor" else "qhold", job])[0] == 0
    lets = "condor_release" if kind == "condor" else "qrls"
    # PBS may have said already that it can never run
    known = cluster.until(pilot, lambda known: known and known.never and known.reason not in ("", "qw") and (kind != "pbs" or lets in known.never))
    assert known.word == "pending"
    assert lets in known.never


def test_job_that_cannot_write_says_so(cluster: Cluster) -> None:
    kind, pilot = cluster.batch.name, cluster.pilot()
    if kind == "torque":
        pytest.skip("SLURM ends such a job, without a word that these commands would tell")
    if kind == "pbs":
        pytest.skip("PBS runs such a job, and writes a mail of what it could not deliver")
    job = cluster.submitted(pilot)
    assert isinstance(cluster.until(pilot, running), Known)
    cluster.cancel(pilot, job)
    broken = cluster.pilot()
    real = cluster.batch.render(Wanted(batch_name(LEDGER, broken), "/nonexistent/folder", walltime=600))
    assert cluster.run(["mkdir", "-p", cluster.folder(broken)])[0] == 0
    for name, text in real.files.items():
        cluster.run(["/bin/sh", "-c", f"cat > {cluster.folder(broken)}/{name}"], text)
    got = cluster.run([word.replace("{dir}", cluster.folder(broken)) for word in real.argv])
    if not isinstance(cluster.batch.receipt(*got, {}), Submitted):
        return  # condor_submit itself looks for the files
    known = cluster.until(broken, lambda known: known and known.never)
    assert "/nonexistent/folder" in known.reason


def test_two_jobs_of_one_pilot_are_seen_and_cancelled_by_name(cluster: Cluster) -> None:
    pilot, other = cluster.pilot(), cluster.pilot()
    one, two = cluster.submitted(pilot), cluster.submitted(pilot, again="-again")
    cluster.submitted(other)
    known = cluster.until(pilot, lambda known: known and known.others)
    assert {known.job, *known.others} == {one, two}
    cluster.until(other, running)
    assert cluster.cancel(pilot)[0] == 0
    cluster.until(pilot, over)
    assert running(cluster.until(other, bool))


def test_pilot_that_is_put_off_its_node_does_not_start_again(cluster: Cluster) -> None:
    kind, pilot = cluster.batch.name, cluster.pilot()
    if kind == "torque":
        pytest.skip("these commands cannot requeue a job")
    if kind == "pbs":
        pytest.skip("only operators may requeue a job that says no to it")
    job = cluster.submitted(pilot, f"echo x >> {cluster.folder(pilot)}/starts; exec sleep 300")
    cluster.until(pilot, running)
    end = time.monotonic() + PATIENCE
    while cluster.run(["cat", f"{cluster.folder(pilot)}/starts"])[1] != "x\n":
        assert time.monotonic() < end
        time.sleep(0.5)
    if kind == "condor":
        cluster.run(["condor_vacate_job", "-fast", job])
        cluster.until(pilot, over)
        # taken out of the queue: its end is known, and it is none of success
        known = cluster.until(pilot, lambda known: known and known.word == "ended", job)
        assert known.exit is None
        assert known.reason.startswith("removed")
    else:
        cluster.run(["qmod", "-rj", job])
        assert running(cluster.until(pilot, bool))
    assert cluster.run(["cat", f"{cluster.folder(pilot)}/starts"])[1] == "x\n"


def test_host_is_seen_to_have_this_batch_system(cluster: Cluster, tmp_path: Path, icp: Callable[..., Any]) -> None:
    (tmp_path / "config.toml").write_text(cluster.config)
    got = icp("site", "add", cluster.site.name, "--yes", "--json", ICP_HOME=str(tmp_path))
    assert got.rc == 0, got.out + got.err
    keys = json.loads(got.out)["keys"]
    assert keys["scheduler"] == cluster.batch.name
    named = keys.get("pilot.partition")
    assert named if cluster.batch.name == "pbs" else named == {"sge": "all.q", "condor": None, "torque": "batch"}[cluster.batch.name]
    # what it proposes is taken, and comes to run
    asked = {"partition": keys.get("pilot.partition"), "cpus": keys["pilot.cpus"], "memory": checked("size", keys["pilot.memory"])}
    pilot = cluster.pilot()
    job = cluster.submitted(pilot, **asked, walltime=checked("time", keys["pilot.walltime"]))
    assert cluster.until(pilot, running).job == job
    cluster.site.kill("scheduler")
    got = icp("site", "add", "again", "--host", cluster.site.name, ICP_HOME=str(tmp_path), timeout=150)
    assert got.rc != 0
    assert f"{cluster.batch.name} is installed" in got.err


def test_dataset_runs_by_pilots(cluster: Cluster, tmp_path: Path, icp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    home, site = tmp_path / "home", cluster.site
    home.mkdir()
    (home / "config.toml").write_text(
        f'{cluster.config}[run]\npause = 2\n[site.there]\nhost = "{site.name}"\nscheduler = "{cluster.batch.name}"\n'
        f'root = "{cluster.home}/.icp-tests/spool"\n[site.there.pilot]\ncpus = 2\nmemory = "1 GB"\nwalltime = "1 h"\nmax = 2\nmax_pending = 2\nidle = 5\n'
    )
    (tmp_path / "small.toml").write_text(
        'jobs = 5\ncommand = "echo $args(job) $HOME > out.txt; nproc >> out.txt"\noutputs = ["out.txt"]\n'
        'resources = { cpus = 1, memory = "100 MB", disk = "10 MB", time = "5 min" }\n'
    )
    got = icp("submit", "small.toml", ICP_HOME=str(home))
    assert got.rc == 0, got.err
    got = icp("run", "--until-done", ICP_HOME=str(home), timeout=240)
    assert got.rc == 0, got.out + got.err
    outputs = sorted((tmp_path / "outputs" / "small").glob("*/out.txt"))
    assert [one.read_text().split("\n")[0] for one in outputs] == [f"{job} {cluster.home}" for job in range(5)]
    (ledger,) = home.glob("*.sqlite")
    db = sqlite3.connect(ledger)
    submitted, without = db.execute("SELECT count(*), count(*) FILTER (WHERE batch IS NULL) FROM pilot").fetchone()
    accepted = db.execute("SELECT count(accepted) FROM task").fetchone()[0]
    db.close()
    assert submitted >= 1
    assert without == 0
    assert accepted == 5
