"""The connection over ssh where hosts and links are as bad as they get."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from icp.backends.base import Outcome, Result, Unknown
from icp.backends.openssh import SESSIONS, OpenSSH
from icp.backends.ssh_socket import control_folder
from icp.backends.ssh_trouble import BACKOFF
from icp.places import places
from tests.lab.sites import LabSite, Sshd

pytestmark = pytest.mark.lab

NO_WAITING = dict.fromkeys(BACKOFF, (0.0,))
Make = Callable[..., OpenSSH]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[OpenSSH] = []

    def one(site: LabSite, *, host: str | None = None, config: Path | None = None, patient: bool = False) -> OpenSSH:
        backoff = BACKOFF if patient else NO_WAITING
        folder = control_folder(places().state)
        made.append(OpenSSH(host or site.name, folder, config=config or site.lab.ssh_config, connect_timeout=3, backoff=backoff))
        return made[-1]

    yield one
    for transport in made:
        transport.close()


def processes(pattern: str) -> list[int]:
    """Of this test's connections only: their socket is on the command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if re.search(pattern, line):
            found.append(int(name))
    return found


def master(transport: OpenSSH) -> int:
    (pid,) = processes(f"-S {re.escape(str(transport.socket))} .*-MNf ")
    return pid


def clients(transport: OpenSSH) -> list[int]:
    return processes(f"-S {re.escape(str(transport.socket))} .*ProxyCommand=false")


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def in_background(call: Callable[[], Outcome]) -> tuple[threading.Thread, list[Outcome]]:
    got: list[Outcome] = []
    thread = threading.Thread(target=lambda: got.append(call()))
    thread.start()
    return thread, got


def begun(site: LabSite, name: str) -> Callable[[], bool]:
    return lambda: site.ssh(f"test -e /tmp/{name}").returncode == 0


def test_noise_and_banner_and_slow_login_are_not_in_the_answer(broken_nsa: LabSite, make: Make) -> None:
    for quirk, how in (("banner", "on"), ("noisyrc", "on"), ("slowlogin", 1)):
        broken_nsa.quirk(quirk, how)
    transport = make(broken_nsa)
    data = os.urandom(100_000)
    assert transport.run(["cat"], data, 30) == Result(0, data, b"")
    assert transport.run(["/bin/sh", "-c", "echo x; echo y >&2; exit 255"], b"", 30) == Result(255, b"x\n", b"y\n")


def test_login_that_is_slower_than_we_wait_is_unknown_and_mends_itself(broken_nsa: LabSite, make: Make) -> None:
    broken_nsa.quirk("slowlogin", 20)
    transport = make(broken_nsa)
    outcome = transport.run(["true"], b"", 3)
    assert isinstance(outcome, Unknown)
    assert "did not begin" in outcome.why
    broken_nsa.quirk("slowlogin", "off")
    assert transport.run(["true"], b"", 30) == Result(0, b"", b"")
    assert transport.standing is None


def test_many_at_once_are_four_sessions_over_one_connection(nsa: LabSite, make: Make) -> None:
    transport, seen = make(nsa), Sshd(nsa)
    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(lambda number: transport.run(["/bin/sh", "-c", f"sleep 0.3; echo {number}"], b"", 60), range(12)))
    assert outcomes == [Result(0, f"{number}\n".encode(), b"") for number in range(12)]
    assert (seen.connections, seen.sessions, transport.sessions, transport.connections) == (1, 12, 12, 1)
    assert 2 <= seen.at_once <= SESSIONS


def test_two_objects_for_a_host_share_connection_and_limit(nsa: LabSite, make: Make) -> None:
    seen = Sshd(nsa)
    one, other = make(nsa), make(nsa)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (one, other)[number % 2].run(["sleep", "0.3"], b"", 60), range(8)))
    assert seen.connections == 1
    assert seen.at_once <= SESSIONS


def test_client_killed_in_mid_command_is_unknown(nsa: LabSite, make: Make) -> None:
    transport = make(nsa)
    thread, got = in_background(lambda: transport.run(["/bin/sh", "-c", "echo began; sleep 5"], b"", 30))
    until(lambda: clients(transport))
    time.sleep(0.5)
    for pid in clients(transport):
        os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert isinstance(got[0], Unknown)
    assert transport.run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")


def test_master_killed_in_mid_command_is_unknown_and_made_anew(nsa: LabSite, make: Make) -> None:
    transport = make(nsa)
    transport.run(["rm", "-f", "/tmp/began"], b"", 30)
    thread, got = in_background(lambda: transport.run(["/bin/sh", "-c", "echo x; touch /tmp/began; sleep 5"], b"", 30))
    until(begun(nsa, "began"))
    os.kill(master(transport), signal.SIGKILL)
    thread.join(20)
    assert isinstance(got[0], Unknown)
    assert got[0].out == b"x\n"
    assert transport.run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")
    assert transport.connections == 2


def test_master_that_froze_before_costs_seconds_only(nsa: LabSite, make: Make) -> None:
    transport = make(nsa)
    transport.run(["true"], b"", 30)
    frozen = master(transport)
    os.kill(frozen, signal.SIGSTOP)
    assert transport.run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")
    assert frozen not in processes("-MNf")


def test_master_that_freezes_in_mid_command_is_unknown_within_the_timeout(nsa: LabSite, make: Make) -> None:
    transport = make(nsa)
    transport.run(["true"], b"", 30)
    frozen = master(transport)
    begin = time.monotonic()
    thread, got = in_background(lambda: transport.run(["sleep", "20"], b"", 4))
    until(lambda: clients(transport))
    os.kill(frozen, signal.SIGSTOP)
    thread.join(30)
    assert isinstance(got[0], Unknown)
    assert time.monotonic() - begin < 12
    assert transport.run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")
    assert frozen not in processes("-MNf")


def test_sshd_killed_in_mid_command_then_brought_back(broken_nsa: LabSite, make: Make) -> None:
    transport = make(broken_nsa)
    transport.run(["rm", "-f", "/tmp/began"], b"", 30)
    thread, got = in_background(lambda: transport.run(["/bin/sh", "-c", "touch /tmp/began; sleep 20"], b"", 30))
    until(begun(broken_nsa, "began"))
    broken_nsa.kill("sshd")
    thread.join(30)
    assert isinstance(got[0], Unknown)
    refused = transport.run(["true"], b"", 10)
    assert isinstance(refused, Unknown)
    assert "no sshd is listening" in refused.why
    broken_nsa.bring_up()
    assert transport.run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")


def test_link_down_in_mid_command_then_up(broken_nsa: LabSite, make: Make) -> None:
    transport = make(broken_nsa)
    transport.run(["rm", "-f", "/tmp/began"], b"", 30)
    thread, got = in_background(lambda: transport.run(["/bin/sh", "-c", "touch /tmp/began; sleep 3; echo late"], b"", 8))
    until(begun(broken_nsa, "began"))
    broken_nsa.net("down")
    thread.join(30)
    assert isinstance(got[0], Unknown)
    begin = time.monotonic()
    away = transport.run(["true"], b"", 6)
    assert isinstance(away, Unknown)
    assert time.monotonic() - begin < 12
    broken_nsa.net("up")
    # for a few seconds the kernel remembers that there was no way
    until(lambda: transport.run(["echo", "well"], b"", 10) == Result(0, b"well\n", b""), 30)


def test_wrong_and_unknown_host_keys_are_told_apart_and_left_alone(nsa: LabSite, make: Make, tmp_path: Path) -> None:
    known = (nsa.lab.run / "client" / "known_hosts").read_text()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    wrong = "\n".join(f"{line.split()[0]} {other}" for line in known.splitlines())
    for name, text, said in (("wrong", wrong, "is not the one in known_hosts"), ("none", "", "is not in known_hosts")):
        (tmp_path / name).write_text(text + "\n")
        config = tmp_path / f"{name}.config"
        config.write_text(nsa.lab.ssh_config.read_text().replace(str(nsa.lab.run / "client" / "known_hosts"), str(tmp_path / name)))
        transport, seen = make(nsa, config=config, patient=True), Sshd(nsa)
        outcome = transport.run(["true"], b"", 20)
        assert isinstance(outcome, Unknown)
        assert said in outcome.why
        assert transport.standing is not None
        again = transport.run(["true"], b"", 20)
        assert isinstance(again, Unknown)
        assert "next try in" in again.why
        assert (seen.connections, transport.connections) == (0, 1)


def test_refused_login_says_what_to_do_and_is_not_hammered(nsa: LabSite, make: Make) -> None:
    transport = make(nsa, host=f"bob@{nsa.name}", patient=True)
    for _ in range(5):
        outcome = transport.run(["true"], b"", 20)
        assert isinstance(outcome, Unknown)
        assert "refuses the login" in outcome.why
        assert "true` must work without a question" in outcome.why
    assert transport.connections == 1
    transport.try_now()
    transport.run(["true"], b"", 20)
    assert transport.connections == 2


def test_full_home_is_no_trouble_of_the_connection(broken_nsa: LabSite, make: Make) -> None:
    broken_nsa.quirk("fullhome", "on")
    assert make(broken_nsa).run(["echo", "well"], b"", 30) == Result(0, b"well\n", b"")


def test_home_directory_of_the_control_socket_is_private_and_short() -> None:
    folder = control_folder(places().state)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(str(folder)) < 80
