"""Ticks that nobody watches: what is installed and taken away again, with stand-ins for crontab, systemctl and scrontab (they keep their file,
and nothing runs it), and what a tick prints and writes down."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.commands.tick_log import KEPT, LARGEST, TickLog
from icp.places import places

Icp = Callable[..., Any]

TABLE = """#!/bin/sh
# a stand-in: crontab(1) as far as it keeps one file
f="$HOME/$(basename "$0").table"
case $1 in
    -l) [ -e "$f" ] || { echo "no crontab for me" >&2; exit 1; }; cat "$f" ;;
    -r) rm "$f" ;;
    *) cat "$1" > "$f" ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
# a stand-in: notes what it is told
echo "$*" >> "$HOME/systemctl.told"
"""
MINE = "# my own\nMAILTO=me@example.org\n0 1 * * * backup 100\\%  # daily"


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the commands; the tables are in $HOME."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("crontab", TABLE), ("scrontab", TABLE), ("systemctl", SYSTEMCTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def table(name: str = "crontab") -> str:
    path = Path.home() / f"{name}.table"
    return path.read_text() if path.exists() else ""


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("way", ["crontab", "scrontab"])
def test_a_line_comes_once_and_goes_and_the_rest_stays_byte_by_byte(icp: Icp, way: str, end: str) -> None:
    (Path.home() / f"{way}.table").write_text(MINE + end)
    first = icp("cron", "install", "--with", way)
    assert first.rc == 0, first
    once = table(way)
    assert once.startswith(MINE + "\n")
    assert icp("cron", "install", "--with", way).rc == 0
    assert table(way) == once
    assert icp("cron", "install", "--with", way, "--every", "2").rc == 0
    ours = [line for line in table(way).splitlines() if " run --once --log " in line]
    assert len(ours) == 1
    assert ours[0].split()[0].endswith("/2")
    assert way in icp("cron", "show").out
    dry = icp("cron", "remove", "--dry-run")
    assert "would lose" in dry.out
    assert ours[0] in table(way)
    assert icp("cron", "remove").rc == 0
    assert table(way) == MINE + "\n"
    assert "nothing was installed" in icp("cron", "remove").out


@pytest.mark.usefixtures("stand_ins")
def test_two_homes_have_a_line_each(icp: Icp, tmp_path: Path) -> None:
    assert icp("cron", "install").rc == 0
    assert icp("cron", "install", ICP_HOME=str(tmp_path / "other home")).rc == 0
    assert table().count("run --once") == 2
    assert icp("cron", "remove", ICP_HOME=str(tmp_path / "other home")).rc == 0
    assert table().count("run --once") == 1
    assert str(places().state) in table()
    assert icp("cron", "remove").rc == 0
    assert table() == ""


@pytest.mark.usefixtures("stand_ins")
def test_dry_run_changes_nothing_and_shows_all(icp: Icp) -> None:
    for way in ("crontab", "scrontab", "systemd"):
        ran = icp("cron", "install", "--with", way, "--dry-run")
        assert ran.rc == 0, ran
        assert "run --once --log" in ran.out
    assert not table()
    assert not table("scrontab")
    assert not (Path(os.environ["XDG_CONFIG_HOME"]) / "systemd").exists()
    assert "--option is for scrontab" in icp("cron", "install", "--option=--qos=x").err
    assert "--qos=x" in icp("cron", "install", "--with", "scrontab", "--option=--qos=x", "--dry-run").out


@pytest.mark.usefixtures("stand_ins")
def test_systemd_gets_two_units_and_loses_them(icp: Icp) -> None:
    ran = icp("cron", "install", "--with", "systemd", "--every", "10")
    assert ran.rc == 0, ran
    units = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user"
    names = sorted(path.name for path in units.iterdir())
    assert [name.rpartition(".")[2] for name in names] == ["service", "timer"]
    service, timer = (units / name for name in names)
    assert "KillMode=process" in service.read_text()
    assert "/10" in timer.read_text()
    told = (Path.home() / "systemctl.told").read_text()
    assert f"--user enable --now {timer.name}" in told
    assert "systemd" in icp("cron", "show").out
    assert icp("cron", "remove").rc == 0
    assert list(units.iterdir()) == []
    assert f"--user disable --now {timer.name}" in (Path.home() / "systemctl.told").read_text()


@pytest.mark.usefixtures("stand_ins")
def test_what_is_installed_ticks_in_crons_own_environment(icp: Icp, tmp_path: Path) -> None:
    home = tmp_path / "a 'home' at 100%"
    (tmp_path / "s.toml").write_text(STEERING)
    places_of = {"ICP_HOME": str(home)}
    assert icp("submit", "s.toml", **places_of).rc == 0
    assert icp("cron", "install", **places_of).rc == 0
    (line,) = table().splitlines()
    deadline = time.monotonic() + 60
    while "is complete" not in ((home / "cron.log").read_text() if (home / "cron.log").exists() else ""):
        assert cron(line) == ""
        assert time.monotonic() < deadline
    shown = icp("status", **places_of).out
    assert "complete" in shown
    assert "(cron on " in shown
    assert "is complete" in icp("cron", "show", **places_of).out


STEERING = """name = "few"
jobs = 2
command = "echo $args(job) > out"
outputs = ["out"]
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""


def cron(line: str) -> str:
    """What cron would mail: it runs the command of a line with hardly any environment, and ``%`` is escaped there."""
    command = line.split(None, 5)[5].replace("\\%", "%")
    env = {"HOME": os.environ["HOME"], "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "ICP_NODE_DIR": os.environ["ICP_NODE_DIR"]}
    done = subprocess.run(["/bin/sh", "-c", command], env=env, cwd=env["HOME"], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def tick(icp: Icp) -> Any:
    return icp("run", "--once", "--log", places().state / "cron.log")


def test_what_keeps_a_tick_from_working_is_said_once(icp: Icp) -> None:
    missing = [tick(icp) for _ in range(3)]
    assert [ran.rc for ran in missing] == [3, 3, 3]
    assert "there is no ledger" in missing[0].err
    assert "icp submit" in missing[0].err
    assert (missing[1].err, missing[2].err) == ("", "")
    places().config.write_text("[run]\npause = 'x'\n")
    other = tick(icp)
    assert "run.pause" in other.err, "another error is news"
    assert not tick(icp).err
    log = (places().state / "cron.log").read_text()
    assert log.count("there is no ledger") == 3


def test_log_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "cron.log"
    for number in range(6):
        log = TickLog(path)
        path.write_text(path.read_text() + "x" * LARGEST if path.exists() else "x" * LARGEST)
        log.say(f"tick {number}\nand more")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["cron.log", *(f"cron.log.{n}" for n in range(1, KEPT + 1))]
    assert sum(file.stat().st_size for file in files) < (KEPT + 1) * (LARGEST + 1000)
    assert "tick 5\n    and more\n" in path.read_text()
    assert "tick 3" in (tmp_path / "cron.log.2").read_text()


def test_a_log_that_cannot_be_written_stops_no_tick(icp: Icp, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STEERING)
    assert icp("submit", "s.toml").rc == 0
    ran = icp("run", "--once", "--log", "/proc/nowhere/cron.log")
    assert (ran.rc, ran.out, ran.err) == (0, "", "")


def test_without_anything_that_ticks_it_says_what_to_do(icp: Icp, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    ran = icp("cron", "install", PATH=str(tmp_path / "none"))
    assert ran.rc == 4
    assert "icp run" in ran.err
    assert icp("cron", "install", "--every", "7").rc == 2
    assert icp("cron", "install", "--with", "launchd").rc == 2
