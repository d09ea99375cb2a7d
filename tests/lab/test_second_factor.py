"""A site that asks for a one-time code beside a key (PAM): a person opens the connection, ticks live on it, and nobody else knocks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from icp.backends.base import Result, Unknown
from icp.backends.openssh import OpenSSH
from icp.config import load
from icp.engine.lines import transport
from icp.ledger.db import open_ledger
from icp.places import places
from tests.lab.sites import LabSite, Sshd
from tests.lab.test_openssh import master
from tests.lab.test_unattended import GOOD, Alone

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
PROMPT = r"Verification code: "


class Codes:
    """What the person's telephone shows: RFC 6238. The site takes a code once, so each is the one of another half minute, within what it allows for clocks."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> str:
        self.last = max(int(time.time()) // 30, self.last + 1)
        digest = hmac.new(base64.b32decode(SECRET), self.last.to_bytes(8, "big"), hashlib.sha1).digest()
        at = digest[-1] & 15
        return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


class Asked(Alone):
    """A home with one site, which asks."""

    def __init__(self, icp: Callable[..., Any], folder: Path, site: LabSite) -> None:
        super().__init__(icp, folder)
        self.site, self.code = site, Codes()
        site.quirk("code", SECRET)
        self.configure(site, ("nsa", site, "", ""))

    @property
    def way(self) -> OpenSSH:
        config = load()
        way = transport(config, config.sites["nsa"])
        assert isinstance(way, OpenSSH)
        return way

    def answer(self, code: str, *options: str) -> tuple[int, list[str]]:
        """`icp login nsa` at a terminal: its exit code, and what was on the screen behind the prompt."""
        child = pexpect.spawn(
            sys.executable, ["-m", "icp", "login", "nsa", *options], env=dict(os.environ), encoding="utf-8", timeout=60, dimensions=(24, 200)
        )
        child.expect(PROMPT)
        child.sendline(code)
        child.expect(pexpect.EOF)
        child.close()
        screen = re.sub(r"\x1b\[[0-9;]*m", "", child.before)
        return child.exitstatus, [line.strip() for line in screen.split("\n") if line.strip()]

    def unseen(self) -> None:
        """A tick as cron makes it: no terminal at all, and nothing to say."""
        words = [sys.executable, "-m", "icp", "run", "--once"]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, timeout=200, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def left_alone(self, since: Sshd, ticks: int = 4) -> None:
        """Ticks find that a person is needed; sshd hears nothing of it, and of the work nothing fails."""
        for _ in range(ticks):
            self.tick()
            assert self.site_state("nsa") == "needs login"
        heard = since.site.log()[since.begin :]
        assert "Connection from" not in heard, heard
        assert self.state("good") == "processing"


@pytest.fixture
def asked(icp: Callable[..., Any], tmp_path: Path, broken_nsa: LabSite) -> Asked:
    return Asked(icp, tmp_path, broken_nsa)


def test_ticks_live_on_the_connection_of_a_person_with_a_code(asked: Asked) -> None:
    site, all_of_it = asked.site, Sshd(asked.site)
    (asked.folder / "s.toml").write_text(GOOD.format(jobs=30, nap=1))
    ran = asked.icp("submit", "s.toml", timeout=100)
    assert ran.rc == 0
    assert "site nsa needs a login: `icp login nsa`" in ran.err
    asked.left_alone(Sshd(site))
    assert asked.told() == [("login", "nsa")]
    why = asked.icp("why", "nsa").out
    assert "asks whoever" in why
    assert "next try" not in why
    ran = asked.icp("run", "--once")
    assert (ran.rc, ran.out) == (5, "")
    assert "site nsa needs a login: `icp login nsa`" in ran.err

    code, said = asked.answer("000000")
    assert code == 1
    assert said[1:] == [
        "icp: site nsa: " + site.name + " did not take what was typed",
        "hint: a code holds for a moment, and often only once; after several wrong ones a site may lock the account",
    ]
    assert asked.icp("login", "nsa", "--check").rc == 5
    asked.left_alone(Sshd(site), ticks=2)

    code, said = asked.answer(asked.code())
    assert (code, said) == (0, ["site nsa: the connection is open, and ticks use it until it ends"])
    seen, deadline = Sshd(site), time.monotonic() + 150
    while asked.ok("good") == 0:
        asked.unseen()
        assert time.monotonic() < deadline, asked.icp("status").out
        time.sleep(0.3)
    assert "Connection from" not in site.log()[seen.begin :], "all of it over the one connection"
    assert asked.site_state("nsa") == "well"

    os.kill(master(asked.way), signal.SIGKILL)
    asked.left_alone(Sshd(site))
    assert asked.told() == [("login", "nsa")] * 2, "a second time is a second event"

    assert asked.answer(asked.code(), "--persist", "2")[0] == 0
    seen, deadline = Sshd(site), time.monotonic() + 60
    asked.tick()
    while asked.way.socket.exists():  # asking it would be work
        assert time.monotonic() < deadline
        time.sleep(0.2)
    asked.left_alone(seen)

    assert asked.answer(asked.code())[0] == 0
    asked.until(lambda: asked.state("good") == "complete", "it does not go on after the last login")
    heard = site.log()[all_of_it.begin :]
    assert heard.count("Accepted keyboard-interactive/pam for alice") == 3, heard
    assert heard.count("Connection from") == 1 + 1 + 3, "the first tick, a wrong code, three logins"
    ledger = open_ledger(places().ledger)
    tries = ledger.db.execute("SELECT count(*), max(try) FROM attempt").fetchone()
    ledger.close()
    assert tuple(tries) == (30, 1), "nothing was tried twice, as nothing failed"
    assert asked.icp("ledger", "check", "--deep").rc == 0


def test_no_tick_ends_a_connection_that_only_a_person_can_open(asked: Asked) -> None:
    way = asked.way
    assert isinstance(way.run(["true"], b"", 20), Unknown)
    assert asked.answer(asked.code())[0] == 0
    asked.site.quirk("slowlogin", 15)
    hung = way.run(["true"], b"", 2)
    assert isinstance(hung, Unknown)
    assert "did not begin" in hung.why
    assert way.connected
    asked.site.quirk("slowlogin", "off")
    way.memory.forget()  # it would be left alone for some seconds
    pid = master(way)
    os.kill(pid, signal.SIGSTOP)
    try:
        hung = way.run(["true"], b"", 5)
        assert isinstance(hung, Unknown)
        assert "does not answer" in hung.why
    finally:
        os.kill(pid, signal.SIGCONT)
    way.memory.forget()
    assert way.run(["true"], b"", 30) == Result(0, b"", b"")


def test_a_site_is_added_where_ssh_asks(asked: Asked) -> None:
    places().config.write_text(f'[ssh]\nconfig = "{asked.site.lab.ssh_config}"\nconnect_timeout = 3\n')
    refused = asked.icp("site", "add", "here", "--host", asked.site.name, "--yes")
    assert refused.rc == 5
    assert "asks whoever comes in" in refused.err
    assert "hint: `icp site add here` at a terminal" in refused.err
    words = ["-m", "icp", "site", "add", "here", "--host", asked.site.name, "--yes", "--partition", "debug"]
    child = pexpect.spawn(sys.executable, words, env=dict(os.environ), encoding="utf-8", timeout=60, dimensions=(24, 200))
    child.expect(PROMPT)
    child.sendline(asked.code())
    child.expect("site here is in")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert asked.icp("login", "here", "--check").rc == 0
    assert asked.icp("site", "check", "here", timeout=110).rc == 0
    way = transport(load(), load().sites["here"])
    assert isinstance(way, OpenSSH)
    assert way.memory.asks, "a look over the open connection says nothing of it"


@pytest.mark.parametrize("way_there", ["ProxyJump {gate}", "ProxyCommand ssh -F {config} {gate} -W %h:%p", "ProxyJump {gate},{inner}"])
def test_a_jump_host_that_asks_is_not_answered_with_nothing(asked: Asked, nsb: LabSite, way_there: str) -> None:
    gate, config = asked.site, asked.folder / "ssh_config"
    plain = gate.lab.ssh_config.read_text().replace("BatchMode yes", "")  # as people's are
    address = nsb.ssh("hostname -I").stdout.split()[0]
    way = way_there.format(gate=gate.name, inner=nsb.name, config=config)
    config.write_text(f"Host far\n  HostName {address}\n  User alice\n  {way}\n{plain}")
    site = '[site.far]\nhost = "far"\nscheduler = "slurm"\nroot = "/home/alice/.icp/far"\n'
    places().config.write_text(f'[ssh]\nconfig = "{config}"\nconnect_timeout = 3\n{site}')
    far = transport(load(), load().sites["far"])
    assert isinstance(far, OpenSSH)
    seen = Sshd(gate)
    refused = far.run(["true"], b"", 30)
    assert isinstance(refused, Unknown)
    assert "asks whoever comes in for a password or a code" in refused.why
    heard = gate.log()[seen.begin :]
    assert heard.count("Connection from") == 1
    assert "keyboard-interactive" not in heard, heard
    assert far.without_agent({"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}) is not None
    assert "keyboard-interactive" not in gate.log()[seen.begin :]
    child = pexpect.spawn(sys.executable, ["-m", "icp", "login", "far"], env=dict(os.environ), encoding="utf-8", timeout=60)
    child.expect(PROMPT)
    child.sendline(asked.code())
    child.expect("the connection is open")
    child.expect(pexpect.EOF)
    child.close()
    assert far.run(["hostname"], b"", 30) == Result(0, f"{nsb.name}-login\n".encode(), b"")
    far.close()


def test_a_site_that_stopped_asking_is_tried_again_when_a_person_checks_it(asked: Asked) -> None:
    assert isinstance(asked.way.run(["true"], b"", 20), Unknown)
    asked.site.quirk("code", "off")
    seen = Sshd(asked.site)
    refused = asked.way.run(["true"], b"", 20)
    assert isinstance(refused, Unknown)
    assert "asks whoever opens one" in refused.why
    assert seen.connections == 0
    assert asked.icp("site", "check", "nsa", timeout=110).rc == 0
    asked.way.close()
    assert asked.way.run(["true"], b"", 20) == Result(0, b"", b"")
