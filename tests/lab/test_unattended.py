"""Left alone at real clusters: logins that only a person can make, and cron's ticks while everything on the way fails."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from icp.backends.openssh import OpenSSH
from icp.commands.tick_log import KEPT, LARGEST
from icp.config import load
from icp.engine.lines import transport
from icp.ledger.db import open_ledger
from icp.places import places
from tests.lab.sites import LabSite, Sshd

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

Icp = Callable[..., Any]
WORD = "sesame-9"
SITE = """[site.{name}]
host = "{host}"
scheduler = "slurm"
root = "/home/alice/.icp/{name}-{mark}"
{more}
[site.{name}.pilot]
cpus = 4
memory = "2 GB"
walltime = "10 min"
max = 1
idle = 3
{pilot}
"""
HEAD = """[ssh]
config = "{ssh}"
connect_timeout = 3
[policy]
backoff = [0]
[notify]
command = "cat >> '{told}'"
"""
GOOD = """name = "good"
jobs = {jobs}
command = "sleep {nap}; echo $args(job) > out"
outputs = ["out"]
requirements = "not $attr(ODD)"
resources = {{ memory = "10 MB", disk = "1 MB", time = "1 min" }}
"""
BAD = """name = "bad"
jobs = 9
stop_loss = 3
max_tries = 1
command = "echo no luck >&2; exit 3"
requirements = "not $attr(ODD)"
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""
ODD = """name = "odd"
jobs = 1
command = "true"
requirements = "$attr(ODD)"
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""


class Alone:
    """A home that nobody looks after."""

    def __init__(self, icp: Icp, folder: Path) -> None:
        self.icp, self.folder, self.told_in = icp, folder, folder / "told"

    def configure(self, first: LabSite, *sites: tuple[str, LabSite, str, str]) -> None:
        text = HEAD.format(ssh=first.lab.ssh_config, told=self.told_in)
        for name, site, more, pilot in sites:
            text += SITE.format(name=name, host=site.name, mark=self.folder.name[-12:], more=more, pilot=pilot)
        places().config.write_text(text)

    def submit(self, text: str) -> None:
        (self.folder / "s.toml").write_text(text)
        ran = self.icp("submit", "s.toml", timeout=100)
        assert ran.rc == 0, ran

    def tick(self) -> None:
        ran = self.icp("run", "--once", "--log", self.log, timeout=200)
        assert (ran.rc, ran.out, ran.err) == (0, "", ""), self.log.read_text()

    def until(self, what: Callable[[], Any], why: str, seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            self.tick()
            assert time.monotonic() < deadline, f"{why}\n{self.icp('status').out}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.3)

    @property
    def log(self) -> Path:
        return places().state / "cron.log"

    def told(self) -> list[tuple[str, str]]:
        lines = self.told_in.read_text().splitlines() if self.told_in.exists() else []
        return [(one["event"], one["dataset"] or one["site"] or "") for one in map(json.loads, lines)]

    def state(self, name: str) -> str:
        found = json.loads(self.icp("status", "--json", "--all").out)["datasets"]
        return next(str(one["state"]) for one in found if one["name"] == name)

    def ok(self, name: str) -> int:
        found = json.loads(self.icp("status", "--json", "--all").out)["datasets"]
        return next(int(one["ok"]) for one in found if one["name"] == name)

    def site_state(self, name: str) -> str:
        return next(str(one["state"]) for one in json.loads(self.icp("site", "list", "--json").out) if one["name"] == name)

    def log_in(self, site: str) -> None:
        """As a person does: the client asks at the terminal."""
        child = pexpect.spawn(sys.executable, ["-m", "icp", "login", site], env=dict(os.environ), encoding="utf-8", timeout=60)
        child.expect("[Pp]assword:")
        child.sendline(WORD)
        child.expect("the connection is open")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


@pytest.fixture
def alone(icp: Icp, tmp_path: Path) -> Alone:
    return Alone(icp, tmp_path)


def end_connections() -> None:
    """What a login node's boot, or a site's limit, does to shared connections."""
    config = load()
    for site in config.sites.values():
        way = transport(config, site)
        assert isinstance(way, OpenSSH)
        way.close()


def test_a_site_that_asks_waits_for_its_person_and_nothing_of_it_fails(alone: Alone, broken_nsa: LabSite) -> None:
    site = broken_nsa
    site.quirk("password", WORD)
    alone.configure(site, ("nsa", site, "", ""))
    alone.submit(GOOD.format(jobs=12, nap=1))
    assert alone.site_state("nsa") == "needs login"
    seen = Sshd(site)
    for _ in range(5):
        alone.tick()
    assert seen.site.log()[seen.begin :].count("Connection from") == 0, "an account whose owner is asleep is not hammered"
    assert "`icp login nsa`" in alone.icp("status").out
    assert "needs login since" in alone.icp("site", "show", "nsa").out
    why = json.loads(alone.icp("why", "nsa", "--json").out)[0]
    assert (why["state"], why["mend"]) == ("needs login", "icp login nsa")
    assert alone.told() == [("login", "nsa")]
    assert alone.icp("login", "nsa", "--check").rc == 5
    assert "wants a terminal" in alone.icp("login", "nsa").err

    alone.log_in("nsa")
    assert alone.icp("login", "nsa", "--check").rc == 0
    alone.until(lambda: alone.ok("good") > 0, "no task came to its end over the person's connection")
    assert alone.site_state("nsa") == "well"

    end_connections()
    alone.tick()
    assert alone.site_state("nsa") == "needs login"
    assert alone.told() == [("login", "nsa")] * 2, "a second time is a second event"
    time.sleep(3)
    alone.log_in("nsa")
    alone.until(lambda: alone.state("good") == "complete", "it does not go on after the second login")
    alone.tick()
    assert alone.told() == [("login", "nsa"), ("login", "nsa"), ("complete", "good")]
    ledger = open_ledger(places().ledger)
    tries = ledger.db.execute("SELECT count(*), max(try) FROM attempt").fetchone()
    ledger.close()
    assert tuple(tries) == (12, 1), "nothing was tried twice, as nothing failed"
    assert alone.icp("ledger", "check").rc == 0


def test_cron_install_tells_which_site_will_need_a_login(alone: Alone, broken_nsa: LabSite, nsb: LabSite) -> None:
    broken_nsa.quirk("password", WORD)
    alone.configure(nsb, ("nsa", broken_nsa, "", ""), ("nsb", nsb, "", ""))
    ran = alone.icp("cron", "install", "--dry-run", "--with", "crontab")
    assert ran.rc == 0, ran
    assert "site nsa will need `icp login nsa`" in ran.out
    assert "site nsb: reached without a key agent" in ran.out


def test_doctor_at_a_cluster(alone: Alone, broken_nsa: LabSite, nsb: LabSite) -> None:
    alone.configure(nsb, ("nsa", broken_nsa, "", ""), ("nsb", nsb, "", ""))
    jobs = nsb.ssh("squeue --me -h").stdout
    assert alone.icp("site", "check", "nsb", timeout=110).rc == 0
    ran = alone.icp("doctor", "--json", timeout=110)
    found = json.loads(ran.out)
    assert [one for one in found if one["ok"] is False] == []
    assert ran.rc == 0
    names = {(one["about"], one["name"]) for one in found}
    here = {"python", "sqlite", "ledger", "disk", "ssh", "ticks"}
    site = {"reach", "login nodes", "clock", "python", "home", "root", "scratch", "egress", "scheduler", "accounting"}
    host = {"namespaces", "fuse", "cvmfs", "parrot"}
    assert {("this machine", name) for name in here} <= names
    assert {("site nsa", one) for one in site | host | {"shared"}} <= names
    assert {("site nsb", one) for one in site} | {("site nsb", f"worker: {one}") for one in host | {"sees"}} <= names
    assert not {("site nsb", one) for one in host | {"shared"}} & names, "what a worker said counts"
    by = {(one["about"], one["name"]): one for one in found}
    assert by["site nsa", "accounting"]["ok"] is None
    assert by["site nsb", "accounting"]["ok"] is True
    assert by["site nsb", "worker: lag"]["at"] is not None
    assert "never checked" in by["site nsa", "worker"]["found"]
    assert all(one["means"] for one in found)
    assert nsb.ssh("squeue --me -h").stdout == jobs, "nothing is submitted"
    broken_nsa.quirk("fullhome", "on")
    full = alone.icp("doctor", "nsa", timeout=110)
    assert full.rc == 1
    assert "No space left" in full.out


@pytest.fixture
def crontab() -> Iterator[None]:
    """The real one; what is there stays. Nobody runs it but the test."""
    if shutil.which("crontab") is None:
        pytest.skip("there is no crontab here: tests/lab/install.sh installs cron")
    before = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    text = before.stdout if before.returncode == 0 else ""
    yield
    if text:
        subprocess.run(["crontab", "-"], input=text, text=True, check=True)
    else:
        subprocess.run(["crontab", "-r"], capture_output=True, check=False)


def lines_of_crontab() -> list[str]:
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


class Cron:
    """cron as it treats a line: hardly any environment, and what is printed would be mailed."""

    def __init__(self, line: str) -> None:
        self.command = line.split(None, 5)[5].replace("\\%", "%")
        self.env = {"HOME": os.environ["HOME"], "LOGNAME": "root", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        self.mail: list[str] = []
        self.ticks = self.killed = 0

    def tick(self, kill_after: float | None = None) -> None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec env {self.command}" if kill_after else self.command], env=self.env, cwd=self.env["HOME"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.ticks += 1
        try:
            said = process.communicate(timeout=kill_after or 200)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[0]
            self.killed += 1
        if said:
            self.mail.append(said)


@pytest.mark.usefixtures("crontab")
def test_a_week_of_cron(alone: Alone, broken_nsa: LabSite, broken_nsb: LabSite) -> None:
    nsa, nsb = broken_nsa, broken_nsb
    alone.configure(nsa, ("nsa", nsa, "", ""), ("nsb", nsb, "", ""), ("odd", nsb, "attributes.ODD = true", 'partition = "nosuch"'))
    theirs = ["# somebody's own", "0 1 * * * true"]
    subprocess.run(["crontab", "-"], input="\n".join([*lines_of_crontab(), *theirs]) + "\n", text=True, check=True)
    before = lines_of_crontab()
    alone.log.write_bytes(b"x" * LARGEST)  # as it is after months
    alone.submit(GOOD.format(jobs=40, nap=1))
    for text in (BAD, ODD):
        alone.submit(text)
    assert alone.icp("cron", "install", "--with", "crontab").rc == 0
    (line,) = set(lines_of_crontab()) - set(before)
    cron, chance = Cron(line), random.Random(7)

    def ticks(n: int) -> None:
        for _ in range(n):
            cron.tick()

    def until(what: Callable[[], Any], why: str, seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            cron.tick()
            assert time.monotonic() < deadline, f"{why}\n{alone.icp('status').out}\n{alone.log.read_text()[-3000:]}"
            time.sleep(0.3)

    until(lambda: alone.ok("good") > 2, "nothing begins")
    nsa.kill("sshd")
    end_connections()
    ticks(3)
    nsa.bring_up()
    nsb.net("down")
    ticks(2)
    nsb.net("up")
    for _ in range(8):
        cron.tick(kill_after=chance.uniform(0.05, 1.5))
    nsa.kill("scheduler")
    ticks(2)
    nsa.bring_up()
    ledger = open_ledger(places().ledger)
    with ledger.write():
        ledger.set_meta("last_tick", time.time() - 2 * 3600)  # as after a night without power
    ledger.close()
    ticks(2)
    until(lambda: alone.site_state("nsa") == "well", "nsa is not back")
    nsa.quirk("password", WORD)
    end_connections()
    until(lambda: alone.site_state("nsa") == "needs login", "the login is not missed")
    ticks(2)
    alone.log_in("nsa")
    until(lambda: alone.state("good") == "complete" and alone.state("bad") == "suspended", "not done")
    ticks(3)

    assert cron.mail == [], "all this is told by notify.command, and in the log"
    assert cron.killed
    told = sorted(alone.told())
    assert told == [("complete", "good"), ("login", "nsa"), ("no-tick", ""), ("paused", "odd"), ("stop-loss", "bad")], alone.log.read_text()
    logs = sorted(alone.log.parent.glob("cron.log*"))
    assert [one.name for one in logs] == ["cron.log", "cron.log.1"]
    assert alone.log.stat().st_size < 300 * cron.ticks
    assert sum(one.stat().st_size for one in logs) < (KEPT + 1) * LARGEST
    assert alone.icp("ledger", "check").rc == 0
    assert alone.icp("cron", "remove").rc == 0
    assert lines_of_crontab() == before
