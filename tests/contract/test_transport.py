"""What every Transport keeps: this machine, and a host over ssh."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from icp.backends.base import Result, Transport, Unknown
from icp.backends.openssh import OpenSSH
from icp.backends.ssh_socket import control_folder
from icp.backends.transport import LocalTransport
from icp.places import places


@pytest.fixture(params=["local", pytest.param("openssh", marks=pytest.mark.lab)])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    if request.param == "local":
        yield LocalTransport()
    else:
        site = request.getfixturevalue("nsa")
        over = OpenSSH(site.name, control_folder(places().state), config=site.lab.ssh_config)
        yield over
        over.close()


def test_words_arrive_as_they_are(transport: Transport) -> None:
    words = ["", " ", "a b", "it's", '"', "$HOME", "`id`", "!x", "a\\n", "line\nline", "\t", "*", "é", "--", "-n", "%s", "~", "{}", ";", "\\", "^"]
    outcome = transport.run(["/usr/bin/printf", "<%s>", *words], b"", 30)
    assert outcome == Result(0, "".join(f"<{word}>" for word in words).encode(), b"")


def test_every_byte_passes_both_ways(transport: Transport) -> None:
    data = bytes(range(256)) * 1000 + b"\0\0\n\r\n"
    assert transport.run(["cat"], data, 30) == Result(0, data, b"")


def test_twenty_megabytes_are_intact(transport: Transport) -> None:
    data = os.urandom(20_000_000)
    outcome = transport.run(["cat"], data, 60)
    assert isinstance(outcome, Result)
    assert outcome.code == 0
    assert outcome.out == data


def test_stdout_and_stderr_are_apart(transport: Transport) -> None:
    assert transport.run(["/bin/sh", "-c", "echo out; echo err >&2"], b"", 30) == Result(0, b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 2, 127, 254, 255])
def test_exit_code_is_the_commands(transport: Transport, code: int) -> None:
    assert transport.run(["/bin/sh", "-c", f"exit {code}"], b"", 30) == Result(code, b"", b"")


def test_output_without_a_newline_stays_without(transport: Transport) -> None:
    assert transport.run(["/usr/bin/printf", "no newline"], b"", 30) == Result(0, b"no newline", b"")


def test_command_that_does_not_read_holds_nobody_up(transport: Transport) -> None:
    assert transport.run(["/bin/sh", "-c", "exit 3"], b"x" * 3_000_000, 30) == Result(3, b"", b"")


def test_what_is_not_there_is_no_success(transport: Transport) -> None:
    outcome = transport.run(["/no/such/program"], b"", 30)
    assert isinstance(outcome, Unknown) or outcome.code == 127


def test_what_a_signal_killed_is_no_success(transport: Transport) -> None:
    outcome = transport.run(["/bin/sh", "-c", "kill -9 $$"], b"", 30)
    assert isinstance(outcome, Unknown) or outcome.code == 137


def test_command_that_does_not_end_is_unknown_in_time_with_what_it_said(transport: Transport) -> None:
    begin = time.monotonic()
    outcome = transport.run(["/bin/sh", "-c", "echo first; exec sleep 30"], b"", 2)
    assert isinstance(outcome, Unknown)
    assert outcome.why
    assert time.monotonic() - begin < 6
    if not isinstance(transport, LocalTransport):
        assert outcome.out == b"first\n"


def test_site_is_as_good_as_before_after_a_timeout(transport: Transport) -> None:
    transport.run(["sleep", "30"], b"", 1)
    assert transport.run(["echo", "here"], b"", 30) == Result(0, b"here\n", b"")
