"""What ssh prints becomes one sentence with a remedy; hosts that refuse are left alone; commands pass every login shell."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.backends.base import Unknown
from icp.backends.openssh import OpenSSH, remote_command
from icp.backends.ssh_socket import control_folder
from icp.backends.ssh_trouble import BACKOFF, Memory, Trouble, classify, refused_person
from icp.errors import BadInput


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder of this test alone, with a name short enough for sockets: pytest's own are too long, and the common one is everybody's."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="icp-") as folder:
        yield Path(folder)


SAID = [
    ("alice@10.0.0.1: Permission denied (publickey,password).", "login", "refuses the login"),
    ("alice@10.0.0.1: Permission denied (keyboard-interactive).", "person", "for a password or a code"),
    ("alice@10.0.0.1: Permission denied (password,keyboard-interactive).", "person", "for a password or a code"),
    ("alice@10.0.0.1: Permission denied (publickey,keyboard-interactive).", "login", "refuses the login"),
    ("alice@10.0.0.1: Permission denied (gssapi-with-mic,password).", "login", "refuses the login"),
    ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", "auth", "too many keys"),
    ("@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@\nHost key verification failed.", "hostkey", "is not the one in known_hosts"),
    ("No ED25519 host key is known for nsa and you have requested strict checking.\nHost key verification failed.", "hostkey", "is not in known_hosts"),
    ("ssh: connect to host nsa port 22: Connection refused", "refused", "no sshd is listening"),
    ("ssh: connect to host nsa port 22: Connection timed out", "timeout", "does not answer"),
    ("Connection timed out during banner exchange", "timeout", "does not answer"),
    ("ssh: connect to host nsa port 22: No route to host", "unreachable", "no way to"),
    ("ssh: Could not resolve hostname nsa: Name or service not known", "name", "cannot be resolved"),
    ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1 port 22", "closed", "closes the connection"),
    ("mux_client_request_session: session request failed: Session open refused by peer", "sessions", "one more session"),
    ("/home/a/.ssh/config: line 3: Bad configuration option: hots", "config", "its own configuration"),
    ("Bad owner or permissions on /home/a/.ssh/config", "config", "its own configuration"),
    ("something \x1b[31mnew", "other", "something ?[31mnew"),
    ("", "other", "it said nothing"),
]


@pytest.mark.parametrize(("printed", "kind", "sentence"), SAID)
def test_sentence_and_remedy(printed: str, kind: str, sentence: str) -> None:
    found = classify("nsa", printed)
    assert found.kind == kind
    assert sentence in found.sentence
    assert found.hint
    assert found.text.isprintable()
    assert "{" not in found.text


def test_cron_without_a_key_agent_is_told() -> None:
    assert "SSH_AUTH_SOCK" in classify("nsa", "a@b: Permission denied (publickey).", key_agent=False).hint
    assert "SSH_AUTH_SOCK" not in classify("nsa", "a@b: Permission denied (publickey).").hint


@given(st.text())
def test_whatever_ssh_prints_is_one_line_of_a_known_kind(printed: str) -> None:
    found = classify("nsa", printed)
    assert found.kind in BACKOFF
    assert found.text.isprintable()


def test_back_off_grows_lasts_over_processes_and_ends(tmp_path: Path) -> None:
    memory, trouble = Memory(tmp_path / "t"), Trouble("auth", "no", "do")
    assert memory.wait(0.0) == 0
    for count, wait in enumerate([60, 300, 900, 3600, 3600], 1):
        memory.remember(trouble, 1000.0)
        assert Memory(tmp_path / "t").wait(1000.0) == wait
        standing = Memory(tmp_path / "t").standing()
        assert standing is not None
        assert (standing.count, standing.since) == (count, 1000.0)
    assert memory.wait(4601.0) == 0
    memory.forget()
    assert memory.standing() is None


def test_clock_set_back_does_not_lock_a_host_for_years(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "t")
    memory.remember(Trouble("refused", "no", "do"), 2e9)
    assert memory.wait(1e9) == 0


def test_torn_memory_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"kind": "au')
    assert Memory(tmp_path / "t").standing() is None
    assert Memory(tmp_path / "t").wait(0) == 0


def refused(folder: Path, asked: str) -> tuple[Path, Path]:
    """A client that is let in nowhere, and a file that has a line of each time that it was called."""
    marker, ssh = folder / "called", folder / "ssh"
    ssh.write_text(f"#!/bin/sh\necho x >> {marker}\necho 'a@b: Permission denied ({asked}).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    return ssh, marker


def test_host_is_left_alone_while_it_is_backed_off(tmp_path: Path, sockets: Path) -> None:
    ssh, marker = refused(tmp_path, "publickey")
    now = [1000.0]
    transport = OpenSSH("nsa", sockets, program=str(ssh), clock=lambda: now[0])
    for _ in range(3):
        outcome = transport.run(["true"], b"", 10)
        assert isinstance(outcome, Unknown)
        assert "refuses the login" in outcome.why
    assert marker.read_text() == "x\n"
    now[0] += 61
    outcome = transport.run(["true"], b"", 10)
    assert marker.read_text() == "x\nx\n", outcome


def test_host_that_asks_is_left_alone_for_good_until_a_person_says_so(tmp_path: Path, sockets: Path) -> None:
    ssh, marker = refused(tmp_path, "keyboard-interactive")
    now = [1000.0]
    for _ in range(3):
        transport = OpenSSH("nsa", sockets, program=str(ssh), clock=lambda: now[0])
        outcome = transport.run(["true"], b"", 10)
        assert isinstance(outcome, Unknown)
        assert "for a password or a code" in outcome.why
        assert transport.needs_login
        now[0] += 86400
    transport.memory.forget()  # as after a person's login: its end is no reason to knock
    transport.run(["true"], b"", 10)
    assert marker.read_text() == "x\n"
    transport.try_now()
    transport.run(["true"], b"", 10)
    assert marker.read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("Notice: 3 days\na@b: Permission denied (keyboard-interactive).", "nsa did not take what was typed"),
        ("a@b: Permission denied (publickey,password).", "nsa did not take what was typed"),
        ("Connection closed by 10.0.0.1 port 22", "nsa closed the connection before anybody was in"),
        ("ssh: connect to host nsa port 22: Connection refused", "nsa refuses connections: no sshd is listening"),
        ("what?", "nsa was not entered (ssh ended with 255)"),
    ],
)  # fmt: skip
def test_what_a_person_at_the_prompt_is_told(printed: str, sentence: str) -> None:
    assert refused_person("nsa", printed, 255).sentence == sentence


def test_ssh_that_hangs_is_ended_in_time(tmp_path: Path, sockets: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 60\n")
    ssh.chmod(0o755)
    outcome = OpenSSH("nsa", sockets, program=str(ssh)).run(["true"], b"", 0.5)
    assert isinstance(outcome, Unknown)
    assert "did not complete a login" in outcome.why


def test_no_ssh_here_says_so(sockets: Path) -> None:
    outcome = OpenSSH("nsa", sockets, program="/no/ssh").run(["true"], b"", 5)
    assert isinstance(outcome, Unknown)
    assert "/no/ssh: No such file" in outcome.why


def test_clients_on_the_way_never_ask_and_are_heard(tmp_path: Path, sockets: Path) -> None:
    """The master calls `ssh` for its jump host as OpenSSH does: by the name that it was called by, with PATH."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/called\ncase "$*" in\n*-W*) echo "a@jump: Permission denied (keyboard-interactive)." >&2;;\n'
                   "*) ssh -W far:22 jump 2>/dev/null; echo 'Connection closed by UNKNOWN port 65535' >&2;;\nesac\nexit 255\n")  # fmt: skip
    ssh.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        outcome = OpenSSH("far", sockets).run(["true"], b"", 30)
    assert isinstance(outcome, Unknown)
    assert "a@jump: Permission denied" in outcome.why
    assert "asks whoever comes in" in outcome.why
    assert (tmp_path / "called").read_text().splitlines()[1] == "-o BatchMode=yes -W far:22 jump"


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "", "a b", "a;b", "a@-b", "$x", "a\n"])
def test_name_that_could_be_an_option_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        OpenSSH(host, tmp_path)


def test_control_folder_is_private_short_and_ours(tmp_path: Path) -> None:
    folder = control_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert len(str(control_folder(deep, {"XDG_RUNTIME_DIR": "/run/nowhere/" + "x" * 90}))) < 40


def test_host_keys_are_never_waved_through(tmp_path: Path) -> None:
    words = " ".join([*OpenSSH("nsa", tmp_path).login_argv(), *OpenSSH("nsa", tmp_path)._work])
    assert "StrictHostKeyChecking" not in words
    assert "UserKnownHostsFile" not in words


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "csh", "tcsh", "zsh", "fish", "ksh"])
def test_command_passes_every_login_shell(shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    script = "printf '%s|' 'a!b' \"$((1+1))\" '\\' \"it's\" '\n' 'é^' `echo x` '%s'"
    done = subprocess.run([path, "-c", remote_command(script)], capture_output=True, check=True)
    assert done.stdout.decode() == "a!b|2|\\|it's|\n|é^|x|%s|"
