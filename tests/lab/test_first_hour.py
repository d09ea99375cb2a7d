"""A person's first hour: what docs/first-hour.md says to type is typed, and what it shows must be on the screen (hides nothing of the page)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.test_cron import TABLE
from tests.lab.sites import LabSite

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "first-hour.md"
PROMPT = re.compile(r"\[(\d+)\] me-here> ")
"""With the exit status of the command before it."""
BLOCK = re.compile(r'^```(?P<kind>console|toml title="(?P<name>[^"]+)")\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
QUESTION = re.compile(r"(?P<asked>.*\? \[[^\]]*\]: )(?P<answer>.*)")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07|\r")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """What is typed, and the lines that shall follow."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        typed, *shown = part.splitlines()
        yield typed, shown


def plain(text: str) -> str:
    """Without what differs from one run to the next: figures, units of times, blanks, names of batches of figures."""
    text = re.sub(r"\b[0-9a-f]{8,}\b|\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "#", CONTROL.sub("", text))
    text = re.sub(r"# (?:ms|s|min|h|d)\b", "#", text)
    return " ".join(text.split())


class Terminal:
    """A shell as a person has it, and all that its screen ever showed."""

    def __init__(self, home: Path, env: dict[str, str], site: str) -> None:
        self.home, self.site = home, site
        words = ["--norc", "--noprofile"]
        self.child = pexpect.spawn("/bin/bash", words, env=env, cwd=str(home), dimensions=(50, 120), timeout=120, encoding="utf-8")
        self.child.expect(PROMPT)

    def type(self, command: str, shown: list[str]) -> None:
        """Type a command, answer what it asks as the page does, and look for each line of the page, in its order."""
        self.child.sendline(command)
        self.child.expect_exact("\r\n")  # the echo
        screen = ""
        for line in shown:
            question = QUESTION.match(self._here(line))
            if line == "^C":
                # the line before it must be there first
                self._wait(shown[shown.index(line) - 1])
                screen += self.child.before + str(self.child.after)
                self.child.sendintr()
            elif question:
                self.child.expect_exact(question["asked"].rstrip())
                screen += self.child.before + str(self.child.after)
                self.child.sendline(question["answer"])
        self.child.expect(PROMPT)
        status = int(self.child.match[1])
        screen += self.child.before
        self._compare(command, [line for line in shown if line != "^C"], screen)
        assert status in ((0, 130) if "^C" in shown else (0,)), f"{command}: exit {status}\n{screen}"

    def _here(self, line: str) -> str:
        for shown, real in (("/home/me", str(self.home)), ("nsa-login", f"{self.site}-login"), ("lab1", os.uname().nodename)):
            line = line.replace(shown, real)
        return line

    def _wait(self, line: str) -> None:
        self.child.expect_exact(line.strip())

    def _compare(self, command: str, shown: list[str], screen: str) -> None:
        lines = iter([plain(line) for line in screen.splitlines()])
        for wanted in shown:
            if wanted.strip():
                found = plain(QUESTION.sub(r"\g<asked>", self._here(wanted)))
                assert any(found in line for line in lines), f"{command} does not show, or not in this order:\n{wanted}\nbut\n{CONTROL.sub('', screen)}"


@pytest.fixture
def terminal(tmp_path: Path, nsa: LabSite) -> Iterator[Terminal]:
    """A new user on a fresh machine: a home with a clone in it, and ssh that knows `nsa`."""
    home = tmp_path / "me"
    (home / "bin").mkdir(parents=True)
    away = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "icp-local", "outputs")
    shutil.copytree(ROOT, home / "icp", ignore=away)
    # in place of ~/.ssh/config, which ssh looks for in the home of the account, whatever HOME says
    config = nsa.lab.ssh_config.read_text().replace(f"Host {nsa.name}\n", "Host nsa\n")
    (home / "ssh_config").write_text(config)
    wrapper = home / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{home}/ssh_config" "$@"\n')
    wrapper.chmod(0o755)
    stand_in = home / "bin" / "crontab"  # the machine's own crontab is left alone
    stand_in.write_text(TABLE)
    stand_in.chmod(0o755)
    (home / "inputrc").write_text("set enable-bracketed-paste off\n")
    nsa.ssh("rm -rf ice .icp")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ICP_", "XDG_", "VIRTUAL_ENV", "PYTHON", "COLUMNS"))}
    env |= {"HOME": str(home), "PATH": f"{home / 'bin'}:{Path(sys.base_prefix) / 'bin'}:{os.defpath}", "TERM": "xterm", "LANG": "C.UTF-8"}
    env |= {"PS1": "[$?] me-here> ", "INPUTRC": str(home / "inputrc"), "VIRTUAL_ENV_DISABLE_PROMPT": "1"}
    one = Terminal(home, env, nsa.name)
    yield one
    one.child.close(force=True)
    nsa.ssh("rm -rf ice")


@pytest.mark.timeout(900)
def test_the_first_hour_is_as_the_page_says(terminal: Terminal) -> None:
    typed = 0
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if block["name"]:
            (terminal.home / block["name"]).write_text(block["text"])
            continue
        for command, shown in commands(block["text"]):
            terminal.type(command, shown)
            typed += 1
    assert typed > 20
    results = terminal.home / "outputs"
    assert [len(list(results.glob(f"{name}/*/*.txt"))) for name in ("first", "fit")] == [10, 4]
    assert (results / "fit" / "000002" / "used.txt").read_text() == "0.917\njob 2\n"
    # as cron runs it: with next to no environment
    line = (terminal.home / "crontab.table").read_text().splitlines()[-1].split(maxsplit=5)[5]
    bare = {"HOME": str(terminal.home), "LOGNAME": "me", "PATH": "/usr/bin:/bin"}
    begin = time.time()
    for command, said in ((line, ""), (f"{terminal.home}/icp-venv/bin/icp status --json", None)):
        ran = subprocess.run(["sh", "-c", command], env=bare, cwd=terminal.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert said is None or ran.stdout == said
    assert json.loads(ran.stdout)["engine"]["last_tick"] >= begin
