"""`icp shell` as somebody meets it: a terminal with history, completion, Ctrl-C and Ctrl-D; and lines from a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from icp.places import places

PROMPT = r"icp(?: \[(\d+)\])?> "


@pytest.fixture
def child(tmp_path: Path) -> Iterator[pexpect.spawn]:
    env = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
    spawned = pexpect.spawn(sys.executable, ["-m", "icp", "shell"], env=env, cwd=str(tmp_path), dimensions=(30, 100), timeout=60, encoding="utf-8")
    spawned.expect(PROMPT)
    yield spawned
    spawned.close(force=True)


def said(child: pexpect.spawn, line: str) -> str:
    child.sendline(line)
    child.expect(PROMPT)
    return str(child.before)


def test_a_command_runs_and_its_exit_code_is_shown(child: pexpect.spawn) -> None:
    assert "# A dataset" in said(child, "new")
    assert child.match.group(1) is None
    assert "There is no steering file none.toml" in said(child, "validate none.toml")
    assert child.match.group(1) == "3"
    assert "closing quotation" in said(child, "validate 'none")
    assert child.match.group(1) == "2"
    said(child, "icp new  # with the name in front")
    assert child.match.group(1) is None


def test_help_explains(child: pexpect.spawn) -> None:
    assert "Describe:" in said(child, "help")
    assert "icp validate steering.toml" in said(child, "help validate")


def test_ctrl_d_leaves_and_history_stays(child: pexpect.spawn) -> None:
    said(child, "new --example dag")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    kept = places().state / "shell-history"
    assert "new --example dag" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_the_line_before_comes_back(child: pexpect.spawn) -> None:
    said(child, "validate first.toml")
    child.send("\x10")  # Ctrl-P
    child.expect("validate first.toml")
    child.sendline("")
    child.expect("There is no steering file first.toml")


def test_ctrl_c_gives_up_the_line_and_the_shell_stays(child: pexpect.spawn) -> None:
    child.send("validate half a li")
    child.expect("half a li")
    child.sendintr()
    child.expect(PROMPT)
    assert "# A dataset" in said(child, "new")


def test_ctrl_c_ends_the_command_that_runs(child: pexpect.spawn, tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text("command = \"echo begun; sleep 300\"\n")
    child.sendline("local long.toml")
    child.expect("\nbegun")
    child.sendintr()
    child.expect(PROMPT)
    assert child.match.group(1) == "130"
    assert "# A dataset" in said(child, "new")


def test_tab_completes_commands_options_and_files(child: pexpect.spawn, tmp_path: Path) -> None:
    (tmp_path / "steering.toml").write_text("command = \"true\"\n")
    child.send("valid\t")
    child.expect("validate ")
    child.send("ste\t")
    child.expect("steering.toml ")
    child.sendline("--js\t")
    child.expect('"ok": true')
    child.expect(PROMPT)


def test_lines_of_a_pipe_run_and_the_last_exit_code_counts(tmp_path: Path) -> None:
    def piped(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "icp", "shell"], input=text, capture_output=True, text=True, cwd=tmp_path, check=False)

    done = piped("# a comment\n\nvalidate none.toml\nnew\n")
    assert done.returncode == 0
    assert "There is no steering file none.toml" in done.stderr
    assert "icp>" not in done.stdout
    assert piped("new\nvalidate none.toml\n").returncode == 3
    assert piped("validate none.toml\nexit\nnew\n").stdout == ""
