"""Sites as a person adds, checks, drains and removes them, against real clusters over real ssh, on good days and bad ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.places import places
from tests.lab.sites import Lab, LabSite, Sshd

pytestmark = pytest.mark.lab

Icp = Callable[..., Any]
SMALL = """command = "echo $args(job) > out"
outputs = ["out"]
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""


def configure(site: LabSite, more: str = "", ssh: str = "", config: Path | None = None) -> Path:
    where = places().config
    where.write_text(f'[ssh]\nconfig = "{config or site.lab.ssh_config}"\n{ssh}\n# mine\n[policy]\ndepth = 60\n{more}')
    return where


def table(site: LabSite, **pilot: Any) -> str:
    said = {"cpus": 1, "walltime": "5 min", **pilot}
    keys = "\n".join(f"{name} = {json.dumps(value)}" for name, value in said.items())
    return f'[site.{site.name}]\nhost = "{site.name}"\nscheduler = "slurm"\nroot = "/home/alice/.icp/{site.name}"\n[site.{site.name}.pilot]\n{keys}\n'


def sentence(ran: Any, code: int) -> str:
    assert ran.rc == code, ran
    first, *_ = ran.err.splitlines()
    assert first.startswith("icp: "), ran.err
    assert "Traceback" not in ran.err
    assert len([line for line in ran.err.splitlines() if line.strip()]) <= 3, ran.err
    return str(ran.err)


def queue(site: LabSite) -> list[str]:
    return site.ssh("squeue --me -h -o '%j %T'").stdout.split("\n")[:-1]


def places_of_checks(site: LabSite) -> list[str]:
    return site.ssh("ls ~/.icp/*/check 2>/dev/null").stdout.split()


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"gave up waiting for {what}"
        time.sleep(0.3)
    return found


@pytest.fixture(autouse=True)
def _queues_are_emptied(lab: Lab) -> Iterator[None]:
    """What a test leaves in a queue (a host that is given up keeps its pilots) must not wait in another's way."""
    yield
    for name in lab.up:
        LabSite(lab, name).net("up")
        LabSite(lab, name).ssh("scancel --me")


@pytest.fixture
def blocked(nsa: LabSite) -> Iterator[LabSite]:
    """A cluster all of whose nodes are taken."""
    job = nsa.ssh("sbatch --parsable -N2 -n2 -c8 -J blocker --wrap 'sleep 600' -o /dev/null").stdout.strip()
    wait_for("the blocking job", lambda: "blocker RUNNING" in queue(nsa))
    yield nsa
    nsa.ssh(f"scancel {job}")


def test_one_session_finds_everything_and_one_table_is_written(icp: Icp, nsb: LabSite) -> None:
    where = configure(nsb)
    before, sshd = where.read_text(), Sshd(nsb)
    said = json.loads(icp("site", "add", nsb.name, "--yes", "--json", "--attribute", "Fast=true").out)
    assert (sshd.connections, sshd.sessions) == (1, 1)
    assert queue(nsb) == []
    keys = said["keys"]
    assert keys["host"] == nsb.name
    assert keys["root"] == f"/home/alice/.icp/{nsb.name}"
    assert (keys["pilot.partition"], keys["pilot.account"], keys["pilot.cpus"], keys["pilot.walltime"]) == ("normal", "lab", 8, "8 h")
    assert keys["accounting"] is True
    after = where.read_text()
    assert after.startswith(before)
    assert json.loads(icp("config", "show", "--json").out)["values"][f"site.{nsb.name}.attributes.Fast"] is True
    assert "there is a site" in sentence(icp("site", "add", nsb.name, "--yes"), 2)
    assert where.read_text() == after


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--partition", "nosuch"], ["no such partition", "normal, debug"]),
        (["--partition", "debug", "--account", "other"], ["--account other", "there are lab"]),
        (["--partition", "debug", "--walltime", "1 h"], ["the limit of the partition debug is 5 min"]),
        (["--partition", "debug", "--cpus", "9"], ["have 8 at the most"]),
        (["--partition", "debug", "--memory", "64 GB"], ["have 16.8 GB"]),
        (["--partition", "debug", "--gpus", "1"], ["the partition debug has none"]),
        (["--partition", "debug", "--root", "spool"], ["expected an absolute path"]),
        (["--partition", "debug", "--root", "/root/x"], ["/root/x", "cannot be written", "Permission denied"]),
        ([], ["more than one partition", "--partition normal, or --yes"]),
    ],
)
def test_what_does_not_exist_there_is_told_with_what_does(icp: Icp, nsb: LabSite, options: list[str], words: list[str]) -> None:
    where = configure(nsb)
    before = where.read_text()
    said = sentence(icp("site", "add", nsb.name, *options), 2)
    for word in words:
        assert word in said
    assert where.read_text() == before


def test_a_noisy_slow_login_with_a_banner_changes_nothing(icp: Icp, broken_nsa: LabSite) -> None:
    for quirk, how in (("banner", "on"), ("noisyrc", "on"), ("slowlogin", 2)):
        broken_nsa.quirk(quirk, how)
    configure(broken_nsa)
    said = json.loads(icp("site", "add", broken_nsa.name, "--yes", "--json").out)
    assert said["found"]["user"] == "alice"
    assert said["keys"]["pilot.partition"] == "normal"
    ran = icp("site", "check", broken_nsa.name, timeout=120)
    assert ran.rc == 0, ran


def test_a_full_home_is_found_before_anything_is_written(icp: Icp, broken_nsa: LabSite) -> None:
    broken_nsa.quirk("fullhome", "on")
    where = configure(broken_nsa)
    before = where.read_text()
    said = sentence(icp("site", "add", broken_nsa.name, "--yes"), 2)
    assert "No space left on device" in said
    assert "--root" in said
    assert where.read_text() == before
    configure(broken_nsa, table(broken_nsa))
    said = sentence(icp("site", "check", broken_nsa.name), 1)
    assert "No space left on device" in said
    assert queue(broken_nsa) == []


def variant(lab: Lab, tmp_path: Path, **options: str) -> Path:
    """The lab's ssh_config with other options; ssh takes the first value that it meets."""
    path = tmp_path / "ssh_config"
    path.write_text("".join(f"{name} {value}\n" for name, value in options.items()) + lab.ssh_config.read_text())
    return path


def test_ssh_troubles_are_one_sentence_each_and_are_tried_again_at_once(icp: Icp, nsa: LabSite, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    good = (nsa.lab.run / "client" / "known_hosts").read_text()
    address = next(line for line in nsa.lab.ssh_config.read_text().splitlines() if "HostName" in line and ".11" in line).split()[1]
    key = next(line for line in good.splitlines() if address in line).split()
    other = (nsa.lab.run / "client" / "id_ed25519.pub").read_text().split()
    known.write_text(f"{key[0]} {other[0]} {other[1]}\n")
    configure(nsa, config=variant(nsa.lab, tmp_path, UserKnownHostsFile=str(known)))
    for _ in range(2):
        said = sentence(icp("site", "add", nsa.name, "--yes"), 5)
        assert "is not the one in known_hosts" in said
        assert "next try" not in said
    known.write_text("")
    configure(nsa, config=variant(nsa.lab, tmp_path, UserKnownHostsFile=str(known)))
    assert "is not in known_hosts" in sentence(icp("site", "add", nsa.name, "--yes"), 5)
    configure(nsa, config=variant(nsa.lab, tmp_path, IdentityFile="/nonexistent", IdentityAgent="none"))
    broken = variant(nsa.lab, tmp_path)
    broken.write_text(broken.read_text().replace(str(nsa.lab.run / "client" / "id_ed25519"), "/nonexistent"))
    configure(nsa, config=broken)
    assert "refuses the login" in sentence(icp("site", "add", nsa.name, "--yes"), 5)
    configure(nsa, table(nsa), config=broken)
    assert "refuses the login" in sentence(icp("site", "check", nsa.name), 1)
    # mended: nobody has to wait
    configure(nsa)
    assert icp("site", "add", nsa.name, "--yes").rc == 0


def test_a_host_that_hangs_is_told_in_seconds(icp: Icp, broken_nsa: LabSite) -> None:
    configure(broken_nsa, table(broken_nsa), ssh="connect_timeout = 3")
    broken_nsa.net("down")
    said = sentence(icp("site", "add", "other", "--host", broken_nsa.name, "--yes", timeout=120), 5)
    assert broken_nsa.name in said
    assert "check the network" in said
    said = sentence(icp("site", "check", broken_nsa.name, timeout=120), 1)
    assert "check the network" in said


def test_a_check_prints_steps_measures_both_ways_and_leaves_nothing(icp: Icp, nsb: LabSite) -> None:
    configure(nsb, table(nsb, account="lab"))
    ran = icp("site", "check", nsb.name, timeout=150)
    assert ran.rc == 0, ran
    for step in ("ssh", "python", "program", "spool", "submit", "logout", "started", "worker", "sees", "rename", "exclusive", "locks", "lag", "clock"):
        assert f"  ok {step} " in ran.out, ran.out
    checked = json.loads(icp("site", "show", nsb.name, "--json").out)["check"]
    assert checked["state"] == "ok"
    assert checked["found"]["there"] == checked["found"]["back"] == {"excl": True, "lock": True}
    assert 0 <= checked["found"]["lag"] < 60
    assert not places().ledger.exists()
    assert places_of_checks(nsb) == []
    wait_for("the end of the job", lambda: queue(nsb) == [])
    wait_for("the end of what was left behind", lambda: nsb.ssh("pgrep -u alice -f '[c]anary watch'").stdout == "")


def test_ctrl_c_leaves_a_check_running_and_show_has_its_end(icp: Icp, blocked: LabSite, tmp_path: Path) -> None:
    configure(blocked, table(blocked))
    log = tmp_path / "out"
    with log.open("w") as out:
        command = [sys.executable, "-m", "icp", "site", "check", blocked.name]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=dict(os.environ, PYTHONUNBUFFERED="1"))
    wait_for("the job to wait", lambda: "pending: " in log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert f"icp site show {blocked.name}" in log.read_text()
    said = json.loads(icp("site", "show", blocked.name, "--json").out)["check"]
    assert said["state"] == "running"
    assert "pending" in said["word"]
    assert len([one for one in queue(blocked) if one.startswith("icp-")]) == 1
    blocked.ssh("scancel --name=blocker")
    wait_for("the check's end", lambda: json.loads(icp("site", "show", blocked.name, "--json").out)["check"]["state"] == "ok", 120)
    assert places_of_checks(blocked) == []


def test_a_check_that_takes_too_long_is_cancelled_and_cleaned_up(icp: Icp, blocked: LabSite) -> None:
    configure(blocked, table(blocked))
    said = sentence(icp("site", "check", blocked.name, "--timeout", 3, timeout=120), 1)
    assert "within 3 s" in said
    assert [one for one in queue(blocked) if one.startswith("icp-")] == []
    assert places_of_checks(blocked) == []


def test_a_job_that_can_never_start_or_is_refused_is_told_with_the_key(icp: Icp, nsa: LabSite) -> None:
    configure(nsa, table(nsa, partition="nosuch"))
    said = sentence(icp("site", "check", nsa.name), 1)
    assert "no such partition" in said
    assert f"site.{nsa.name}.pilot.partition" in said
    assert places_of_checks(nsa) == []
    configure(nsa, table(nsa, constraint="nosuch"))
    assert "constraint" in sentence(icp("site", "check", nsa.name), 1)


def test_a_python_that_is_not_there_is_told(icp: Icp, nsa: LabSite) -> None:
    configure(nsa, f'[site.{nsa.name}]\nhost = "{nsa.name}"\nscheduler = "slurm"\nroot = "/home/alice/.icp/x"\npython = "/nowhere/python3"\n')
    said = sentence(icp("site", "check", nsa.name), 1)
    assert "/nowhere/python3" in said
    assert f"site.{nsa.name}.python" in said


def test_a_spool_that_workers_do_not_see_is_told(icp: Icp, lab: Lab) -> None:
    # a cluster of its own: nodes that other tests killed and brought back cannot be made blind
    site = lab.site("g", 19, "slurm", 2, 8)
    site.ssh("mkdir -p ~/.icp; touch ~/.icp/seen")
    try:
        for _ in range(3):
            site.quirk("blindnodes", "/home/alice/.icp")
            looked = site.ssh("srun -N 2 -t 1 ls -A /home/alice/.icp")
            if looked.returncode == 0 and not looked.stdout.strip():
                break
            for node in (1, 2):
                site.kill("node", node)
            site.bring_up()
        if looked.returncode != 0 or looked.stdout.strip():
            pytest.skip(f"the stand-in for such nodes does not work here: {looked}")
        configure(site, table(site))
        said = sentence(icp("site", "check", site.name, timeout=180), 1)
        assert "does not see that directory" in said
        assert f"site.{site.name}.root" in said
        assert places_of_checks(site) == []
    finally:
        site.quirk("blindnodes", "off")


def test_a_site_with_work_is_not_removed_until_it_is_drained(icp: Icp, nsa: LabSite, tmp_path: Path) -> None:
    # a place of its own: where another ledger's spool lies, the place stays
    place = f"/home/alice/.icp/{tmp_path.name}"
    where = configure(nsa, table(nsa, max=1, idle=300).replace(f"/home/alice/.icp/{nsa.name}", place))
    before = where.read_text()
    (tmp_path / "s.toml").write_text("jobs = 2\n" + SMALL)
    assert icp("submit", "s.toml").rc == 0
    wait_for("a pilot at work", lambda: icp("run", "--once").rc == 0 and "running" in icp("status").out)
    assert "drain" in sentence(icp("site", "remove", nsa.name), 4)
    assert "would take" not in icp("site", "drain", nsa.name, "--dry-run").out
    assert icp("site", "drain", nsa.name, "--wait", timeout=200).rc == 0
    assert [one for one in queue(nsa) if one.startswith("icp-")] == []
    assert "nothing was changed" in icp("site", "remove", nsa.name, "--dry-run").out
    assert where.read_text() == before
    ran = icp("site", "remove", nsa.name)
    assert ran.rc == 0, ran
    assert where.read_text() == before[: before.index("[site.")]
    assert nsa.ssh(f"find {place}").stdout == ""
    assert nsa.name not in icp("status").out
    assert icp("ledger", "check").rc == 0
    # of the same name again: a spool of its own
    configure(nsa, table(nsa, max=1, idle=2))
    assert icp("submit", "s.toml", "--name", "again", "--outputs", tmp_path / "again").rc == 0
    assert icp("run", "--until-done", timeout=200).rc == 0
    assert (tmp_path / "again" / "000001" / "out").read_text() == "1\n"


def test_a_host_that_is_gone_is_removed_by_force_and_its_work_is_done_elsewhere(icp: Icp, broken_nsa: LabSite, tmp_path: Path) -> None:
    gone = broken_nsa
    here = "[site.here]\nscheduler = 'none'\n[site.here.pilot]\ncpus = 1\nidle = 2\n"
    where = configure(gone, table(gone, max=1, idle=300) + here, ssh="connect_timeout = 3")
    (tmp_path / "s.toml").write_text("jobs = 3\n" + SMALL)
    assert icp("site", "pause", "here").rc == 0
    assert icp("submit", "s.toml").rc == 0
    gone.net("down")
    sentence(icp("site", "remove", gone.name, "--keep-spool"), 4)
    ran = icp("site", "remove", gone.name, "--force", timeout=120)
    assert ran.rc == 0, ran
    assert gone.name not in where.read_text()
    assert icp("site", "resume", "here").rc == 0
    assert icp("run", "--until-done", timeout=200).rc == 0
    assert (tmp_path / "outputs" / "s" / "000002" / "out").read_text() == "2\n"
    assert icp("ledger", "check").rc == 0
