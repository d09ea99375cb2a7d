"""Real Grid Engine, HTCondor, Torque's commands and SLURM under one engine: jobs that the ledger does not know, pilots whose job is gone, core-hours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.ledger.check import check
from icp.model.batch import Wanted, batch_name
from icp.states import Pilot
from tests.lab.sites import Lab, LabSite
from tests.lab.test_pilots import Home

pytestmark = pytest.mark.lab

KINDS = {"sge": ("c", 13), "condor": ("d", 14), "torque": ("e", 15), "slurm": ("b", 12)}
CANCEL = {"sge": "qdel {}", "condor": "condor_rm {}", "torque": "qdel {}", "slurm": "scancel {}"}
CLEAR = {"sge": "qdel -u $USER", "condor": "condor_rm -all", "torque": "qstat | awk 'NR > 2 {print $1}' | xargs -rn 1 qdel", "slurm": "scancel --me"}
SMALL = 'cpus = 2\nmemory = "400 MB"\nwalltime = "10 min"\nidle = 3\nmax = 2\nmax_pending = 2'


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(lab: Lab, kind: str) -> LabSite:
    letter, host = KINDS[kind]
    knobs = {"ACCT": "dbd", "MINJOBAGE": "2"} if kind == "slurm" else {}
    one = lab.site(letter, host, kind, *((2, 8) if kind == "slurm" else ()), **knobs)
    one.bring_up()
    return one


@pytest.fixture
def home(tmp_path: Path, site: LabSite, kind: str) -> Iterator[Home]:
    one = Home(tmp_path / "home", site, SMALL, "", kind)
    yield one
    wrong = check(one.ledger)
    one.close()
    site.ssh(CLEAR[kind])
    assert not wrong


def behind(home: Home, pilot: str) -> str:
    """Submit a job that bears a name of this ledger's, without the ledger; its id."""
    batch, folder = home.engine.sites["s"].batch, f"/home/alice/behind/{pilot}"
    captured = batch.render(Wanted(batch_name(home.ledger.uuid, pilot), folder, walltime=600))
    assert home.lab.ssh(f"mkdir -p {folder}").returncode == 0
    for name, text in {**captured.files, batch.body: "#!/bin/sh\nexec sleep 500\n"}.items():
        assert home.lab.ssh(f"cat > {folder}/{name}", stdin=text).returncode == 0
    words = [word.replace("{dir}", folder) for word in captured.argv]
    got = home.lab.ssh(f"cd {folder} && exec {shlex.join(words)}")
    receipt: Any = batch.receipt(got.returncode, got.stdout, got.stderr, {})
    return str(receipt.job)


def there(home: Home) -> set[str]:
    """Pilots that the batch system has alive, asked apart from the engine."""
    batch = home.engine.sites["s"].batch
    got = home.lab.ssh(shlex.join(batch.questions(home.ledger.uuid, (), None)[0]))
    states: Any = batch.states(home.ledger.uuid, [(got.returncode, got.stdout, got.stderr)], {})
    return {pilot for pilot, known in states.items() if known.word in ("pending", "running")}


def test_job_of_ours_that_the_ledger_does_not_know_is_cancelled_and_told(home: Home) -> None:
    stranger = "00c0ffee00c0ffee"
    job = behind(home, stranger)
    home.submit(1, "sleep 5")
    home.until(lambda: stranger in {key.hex() for (key,) in home.all("SELECT key FROM pilot")})
    home.until(lambda: stranger not in there(home))
    home.until(home.done)
    home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1"))
    state, batch, reason = home.all("SELECT state, batch, reason FROM pilot WHERE key = ?", bytes.fromhex(stranger))[0]
    assert Pilot(state) == Pilot.CANCELLED
    assert batch == job
    assert "did not submit" in reason
    # nobody holds it against the site
    assert home.all("SELECT young, paused FROM site") == [(0, None)]
    assert there(home) == set()


def test_pilot_whose_job_somebody_takes_away_is_settled_and_its_task_is_done(home: Home, kind: str) -> None:
    home.submit(1, "sleep 15")
    home.until(lambda: home.one("SELECT count(*) FROM attempt WHERE state = 3"))
    job = home.one("SELECT batch FROM pilot")
    assert home.lab.ssh(CANCEL[kind].format(job)).returncode == 0
    home.until(home.done, 200)
    home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1"))
    (state, reason), *more = home.all("SELECT state, reason FROM pilot ORDER BY id")
    assert more
    # an agent that was sent SIGTERM says goodbye; one that was not leaves what is known of its job
    assert Pilot(state) == Pilot.DONE or reason
    assert there(home) == set()


def test_pilot_that_is_taken_away_before_it_begins_is_settled(home: Home, kind: str) -> None:
    """It waits, for all is taken."""
    fill = behind_full(home, kind)
    home.submit(1)
    key = home.until(lambda: home.one("SELECT key FROM pilot WHERE state = 2"))
    assert home.lab.ssh(CANCEL[kind].format(home.one("SELECT batch FROM pilot WHERE key = ?", key))).returncode == 0
    reason = home.until(lambda: home.one("SELECT reason FROM pilot WHERE key = ? AND live = 0", key))
    assert re.search(r"ended|does not know", reason)
    for job in fill:
        home.lab.ssh(CANCEL[kind].format(job))
    with home.ledger.write() as db:
        db.execute("UPDATE site SET hold = 0")
    home.until(home.done)


def behind_full(home: Home, kind: str) -> list[str]:
    """Jobs of the person's own on every cpu."""
    script = "#!/bin/sh\nsleep 500\n"
    if kind == "condor":
        text = "executable = /bin/sleep\narguments = 500\nqueue 8\n"
        got = home.lab.ssh("cat > fill.sub; condor_submit -terse fill.sub", stdin=text).stdout
        return [got.split(".")[0]]
    command = {"sge": "qsub -terse -o /dev/null -e /dev/null -pe smp 8 f.sh", "torque": "qsub -l nodes=2:ppn=8 f.sh",
               "slurm": "sbatch --parsable -o /dev/null -N 2 --exclusive f.sh"}[kind]  # fmt: skip
    got = home.lab.ssh(f"cat > f.sh; chmod 755 f.sh; {command}", stdin=script)
    assert got.returncode == 0, got.stderr + got.stdout
    return [got.stdout.split(".")[0].strip()]


# --- core-hours


def charged(home: Home, kind: str, jobs: list[str]) -> Callable[[], float]:
    """Core-seconds of these jobs as the batch system's own tools have them, read by other means than the engine's."""

    def read() -> float:
        total = 0.0
        for job in jobs:
            if kind == "slurm":
                text = home.lab.ssh(f"sacct -nXP -j {job} -o CPUTimeRAW").stdout
                total += float(text.split()[0])
            elif kind == "sge":
                row = dict(line.split(None, 1) for line in home.lab.ssh(f"qacct -j {job}").stdout.splitlines() if len(line.split(None, 1)) == 2)
                total += float(row["ru_wallclock"].rstrip("s ")) * int(row["slots"])
            elif kind == "condor":
                text = home.lab.ssh(f"condor_history {job} -af CumulativeSlotTime").stdout
                total += float(text.split()[0])
            else:
                # SLURM's own, at the site's other end: its users do not have these commands
                text = home.lab.inside("/opt/icp-lab/torque/slurm/scontrol", "-o", "show", "job", job).stdout
                row = dict(word.split("=", 1) for word in text.split() if "=" in word)
                hours, minutes, rest = row["RunTime"].split(":")
                total += (int(hours) * 3600 + int(minutes) * 60 + int(rest)) * int(row["NumCPUs"])
        return total

    return read


def test_core_hours_of_pilots_are_the_batch_systems_own(home: Home, kind: str) -> None:
    home.submit(4, "sleep 20")
    home.until(home.done)
    home.until(lambda: not home.one("SELECT count(*) FROM pilot WHERE live = 1 OR core_seconds IS NULL"))
    rows = home.all("SELECT batch, core_seconds FROM pilot")
    own = charged(home, kind, [batch for batch, _ in rows])()
    assert own > 40
    assert sum(used for _, used in rows) == pytest.approx(own, rel=0.05)
