"""A real HTCondor pool that is full: a hundred marked jobs run on this machine, and their outputs are where they belong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icp.places import places
from tests.lab.sites import Lab, LabSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

JOBS = 100
SUBMIT = '''executable = run.sh
arguments = "$(Process) 'a  b' ""c"""
environment = "A='x y'"
output = logs/out.$(Process)
error = err.$(Process)
log = events.log
transfer_input_files = in.txt
request_memory = 100
+IcpOverflow = true
queue {jobs}
'''


@pytest.fixture
def pool(lab: Lab) -> Iterator[LabSite]:
    """All of its cpus are taken, by one job of ours each, and nothing else is in the queue. Other tests use this pool too, in whatever order: what they
    left is gone first, and its size is what it says itself."""
    site = lab.site("d", 14, "condor")
    site.bring_up()
    empty(site)
    submit = "mkdir -p full; cd full; printf 'executable = /bin/sleep\\narguments = 100000\\nqueue %d\\n' >s.sub; condor_submit -terse s.sub"
    cpus = free(site)
    assert cpus
    cluster = run(site, submit % cpus).split(".")[0]
    fillers = {f"{cluster}.{number}" for number in range(cpus)}
    until(lambda: set(running(site)) == fillers and not free(site), lambda: run(site, "condor_q -nobatch; condor_status"))
    yield site
    assert set(running(site)) == fillers, "the pool ran something else"
    empty(site)
    run(site, "rm -rf work")


def run(site: LabSite, command: str) -> str:
    done = site.ssh(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def running(site: LabSite) -> list[str]:
    """The jobs that the pool runs, whoever's."""
    return run(site, "condor_q -allusers -constraint 'JobStatus == 2' -af:j ClusterId | cut -d ' ' -f 1").split()


def free(site: LabSite) -> int:
    """Cpus that a job could have."""
    return sum(map(int, run(site, "condor_status -constraint 'SlotType =!= \"Dynamic\"' -af Cpus").split()))


def empty(site: LabSite) -> None:
    """No job in the queue, and no slot that one of them still has."""
    site.ssh("condor_rm -all")
    until(
        lambda: not run(site, "condor_q -allusers -af ClusterId").split() and not run(site, "condor_status -claimed -af Name").split(),
        lambda: run(site, "condor_q -nobatch; condor_status"),
    )


def until(wanted: Callable[[], bool], told: Callable[[], str]) -> None:
    end = time.monotonic() + 120
    while not wanted():
        assert time.monotonic() < end, told()
        time.sleep(0.5)


def prepare(site: LabSite, jobs: int, script: str) -> None:
    files = json.dumps({"run.sh": script, "in.txt": "in\n", "o.sub": SUBMIT.format(jobs=jobs)})
    write = "import json,sys,os\nos.makedirs('work/logs')\nfor n,t in json.load(sys.stdin).items(): open('work/'+n,'w').write(t)"
    done = site.ssh(f'python3 -c "{write}"', stdin=files)
    assert done.returncode == 0, done.stderr
    run(site, "cd work && condor_submit o.sub")


def icp(*words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"ICP_FAULT": fault} if fault else {})}
    return subprocess.run([sys.executable, "-m", "icp", *words], env=env, capture_output=True, text=True, timeout=300, check=False)


def configure(site: LabSite) -> None:
    config = places().config
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f'[ssh]\nconfig = "{site.lab.ssh_config}"\n[site.here.pilot]\ncpus = 4\n'
        f'[site.{site.name}]\nhost = "{site.name}"\nroot = "/home/alice/.icp/x"\npilot.max = 0\n'
    )


def test_a_hundred_jobs_of_a_full_pool(pool: LabSite, tmp_path: Path) -> None:
    configure(pool)
    runs = tmp_path / "runs"
    prepare(pool, JOBS, f'#!/bin/sh\necho "$1" >>{runs}\necho "$@" "$A"; echo err >&2; cat in.txt >new.$1\n')
    seen = json.loads(icp("overflow", pool.name, "--dry-run", "--json").stdout)
    assert len(seen["wanted"]) == JOBS
    # killed when the jobs are held, when they are a dataset, when engine and ledger disagree, and when outputs are there but not noted
    for point in ("overflow.ordered:2", "overflow.imported:1", "engine.ingested:1"):
        token = tmp_path / point
        token.touch()
        killed = icp("overflow", pool.name, "--once", fault=f"{point}:{token}")
        assert killed.returncode == -9, killed.stderr
    assert icp("run", "--until-done", "--quiet").returncode == 0
    token = tmp_path / "delivered"
    token.touch()
    assert icp("overflow", pool.name, "--once", fault=f"overflow.delivered:1:{token}").returncode == -9
    for _ in range(10):
        done = icp("overflow", pool.name, "--once", "--json")
        assert done.returncode == 0, done.stderr
        if json.loads(done.stdout)["counts"] == {"removed": JOBS}:
            break
    else:
        pytest.fail(done.stdout)
    assert run(pool, "condor_q -constraint 'IcpOverflow =?= True' -af ProcId") == ""
    shown = run(pool, "cd work; ls logs | wc -l; cat err.* | sort -u; cat new.* | sort -u; cat logs/out.17; ls -a . logs | grep -c '^[.]icp' || true")
    assert shown.splitlines() == [str(JOBS), "err", "in", '17 a  b "c" x y', "0"]
    assert sorted(map(int, runs.read_text().split())) == list(range(JOBS))


def test_failures_and_what_its_owner_takes_back(pool: LabSite) -> None:
    configure(pool)
    prepare(pool, 5, '#!/bin/sh\necho "$@"; [ "$1" != 3 ]\n')
    assert icp("overflow", pool.name, "--once").returncode == 0
    cluster = run(pool, "condor_q -constraint 'IcpOverflow =?= True && JobStatus == 5' -af ClusterId").split()
    assert len(cluster) == 5
    run(pool, f"condor_release {cluster[0]}.0; condor_rm {cluster[0]}.1")
    assert icp("overflow", pool.name, "--once").returncode == 0
    assert icp("run", "--until-done", "--quiet").returncode == 0
    for _ in range(3):
        done = json.loads(icp("overflow", pool.name, "--once", "--json").stdout)
    assert done["counts"] == {"gone": 2, "released": 1, "removed": 2}
    assert run(pool, "condor_q -constraint 'IcpOverflow =?= True' -af ProcId JobStatus | sort").split("\n") == ["0 1", "3 1", ""]
