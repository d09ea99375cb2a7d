"""`icp submit --unmonitored`: jobs that run by themselves, on this machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from icp.cli import main
from icp.places import places

STEERING = '''
jobs = 2
files = ["in.txt"]
[task.make]
command = """cat in.txt > all.txt; echo $args(job) >> all.txt; echo 1 > p1.dat; echo 2 > p2.dat
echo made; echo trouble >&2; exit $eval(3 if $args(job) == 7 else 0)"""
outputs = ["all.txt", "p*.dat"]
[task.use]
inputs = ["make:all.txt", "make:p*.dat"]
command = "cat all.txt p1.dat p2.dat > used.txt"
outputs = ["used.txt"]
'''


@pytest.fixture
def steering(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("in\n")
    file = tmp_path / "two.toml"
    file.write_text(STEERING)
    config = places().config
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[site.here.pilot]\ncpus = 20\n")
    return file


def results(folder: Path, jobs: list[str]) -> dict[str, Any]:
    """What the jobs say at their end; they are waited for, to leave no process behind."""
    deadline = time.monotonic() + 100
    while not all((folder / job / "exit").exists() for job in jobs):
        assert time.monotonic() < deadline, sorted(folder.rglob("*"))
        time.sleep(0.05)
    return {job: json.loads((folder / job / "result.json").read_text()) for job in jobs}


def test_jobs_run_by_themselves(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--unmonitored", "--json", "--seed", "5", str(steering)]) == 0
    said = json.loads(capsys.readouterr().out)
    folder = Path(said["folder"])
    assert [one["job"] for one in said["jobs"]] == [0, 1]
    assert all(one["batch"].startswith("pid:") for one in said["jobs"])
    found = results(folder, ["000000", "000001"])
    assert [[one["r"] for one in facts] for facts in found.values()] == [["ok", "ok"]] * 2
    assert (folder / "000001" / "use" / "used.txt").read_text() == "in\n1\n1\n2\n"
    assert (folder / "000001" / "job.out").read_text() == "made\n"
    assert (folder / "000001" / "job.err").read_text() == "trouble\n"
    assert not places().ledger.exists()


def test_a_task_that_fails_ends_its_job(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--unmonitored", "--json", "--jobs", "8", str(steering)]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    found = results(folder, [f"{n:06}" for n in range(8)])
    assert [(one["task"], one["r"], one["exit"]) for one in found["000007"]] == [("make", "error", 3)]
    assert json.loads((folder / "000007" / "exit").read_text())["rc"] == 1


@pytest.mark.parametrize(("words", "said"), [
    (["--jobs", "21"], "it would begin 21 jobs at once"), (["--jobs", "1001"], "1,001 jobs are more than the 1,000"), (["--watch"], "nothing is watched"),
    (["--site", "nowhere"], "there is no site nowhere"),
])  # fmt: skip
def test_what_is_refused_is_refused_before_anything_is_sent(steering: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["submit", "--unmonitored", *words, str(steering)]) in (2, 3, 4)
    assert said in capsys.readouterr().err
    assert not list(Path(os.environ["ICP_HOME"]).rglob("job.json"))


def test_a_site_alone_is_a_mistake(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--site", "here", str(steering)]) == 2
    assert "--site is for --unmonitored" in capsys.readouterr().err
