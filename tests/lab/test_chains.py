"""A production chain over three sites: each level made at another one from what the level before brings home, as it comes."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.ledger.check import check
from tests.lab.muons_home import PATIENCE, SEED, Home, Muons
from tests.lab.sites import LabSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

JOBS = 12
RESOURCES = 'resources = { memory = "20 MB", disk = "10 MB", time = "2 min" }\n'
LEVEL1 = f"""name = "level1"
jobs = {JOBS}
[task.shower]
command = "sleep 0.5; for i in 1 2 3 4 5 6; do echo $args(job) $i $args(seed) | cksum; done > shower.txt"
outputs = ["shower.txt"]
"""
LEVEL2 = """name = "level2"
jobs = { from = "dataset:level1/shower:shower.txt", group_by = "$eval($args(job) // 3)", group = 3, follow = true }
[task.clean]
command = "cat $args(files) | sort > clean.txt"
outputs = ["clean.txt"]
[task.select]
inputs = ["clean:clean.txt"]
command = "echo group $args(source_group) > level2.txt; grep -v ^1 clean.txt >> level2.txt"
outputs = ["level2.txt"]
"""
LEVEL3 = """name = "level3"
jobs = { from = "dataset:level2/select:level2.txt", group_by = "$eval(int($args(source_group)) % 2)", follow = true }
[task.merge]
command = "echo half $args(source_group) > level3.txt; cat $args(files) | sort >> level3.txt"
outputs = ["level3.txt"]
[final.whole]
inputs = ["merge:level3.txt[*]"]
command = "sort $(cat inputs.list) > whole.txt"
outputs = ["whole.txt"]
"""
LEVELS = {"level1": LEVEL1, "level2": LEVEL2, "level3": LEVEL3}
AT = {"level1": "nsa", "level2": "nsb", "level3": "local"}


def write(folder: Path, *, placed: bool) -> dict[str, Path]:
    """The steering files; ``placed``: each level runs at one site only."""
    made = {}
    for number, (name, text) in enumerate(LEVELS.items(), 1):
        more = RESOURCES + (f'requirements = "$attr(LEVEL) == {number}"\n' if placed else "")
        made[name] = folder / f"{name}.toml"
        made[name].write_text(text.replace("command = ", f"{more}command = "))
    return made


def say(home: Home, *words: object) -> str:
    command = [sys.executable, "-m", "icp", *map(str, words)]
    done = subprocess.run(command, env=home.env, cwd=home.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(home: Home) -> dict[str, list[str]]:
    """sha256 of all files of each level; jobs of a level that follows have the numbers of the order in which they came."""
    found = {}
    for name in LEVELS:
        folder = home.outputs / name
        found[name] = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.txt"))
    return found


@pytest.fixture
def homes(tmp_path: Path, broken_nsa: LabSite, broken_nsb: LabSite) -> Iterator[tuple[Muons, Home]]:
    """One with the three sites and all three levels submitted; one for this machine alone, with nothing yet."""
    files = write(tmp_path, placed=True)
    three = Muons(tmp_path / "three", {"nsa": broken_nsa, "nsb": broken_nsb}, jobs=JOBS, seed=SEED, steering=None)
    config = three.home / "config.toml"
    text = config.read_text()
    for number, name in enumerate(AT.values(), 1):
        text = text.replace(f"[site.{name}]\n", f"[site.{name}]\nattributes.LEVEL = {number}\n")
    config.write_text(text)
    alone = Home(tmp_path / "alone")
    for name, path in files.items():
        say(three, "submit", path, "--seed", SEED, "--outputs", three.outputs / name)
    yield three, alone
    three.close()
    alone.close()


def test_three_levels_at_three_sites_under_kills_are_what_this_machine_makes_alone(homes: tuple[Muons, Home], tmp_path: Path) -> None:
    three, alone = homes
    chance = random.Random(SEED)
    three.killed(6, lambda: chance.uniform(0.2, 2.5))
    three.finish_run()
    three.settle()
    states = [one["state"] for one in json.loads(say(three, "status", "--json", "--all"))["datasets"]]
    assert states == ["complete"] * 3, three.story()
    ledger = three.ledger()
    try:
        assert check(ledger, deep=True) == []
    finally:
        ledger.close()
    say(three, "ledger", "check", "--deep")
    three.assert_nothing_left()

    seeds: dict[int, int] = {}
    for path in sorted((three.outputs / "level3").glob("0*/level3.txt")):
        made: list[Any] = json.loads(say(three, "provenance", path, "--json", "--all"))["attempts"]
        assert {(one["dataset"]["name"], one["site"]) for one in made} == set(AT.items())
        assert Counter(one["dataset"]["name"] for one in made) == {"level3": 1, "level2": 4, "level1": JOBS // 2}
        seeds |= {one["job"]: one["seed"] for one in made if one["dataset"]["name"] == "level1"}
    assert sorted(seeds) == list(range(JOBS)), "the seed of each job of level 1 is found from the files of level 3"

    for name, path in write(tmp_path, placed=False).items():
        say(alone, "submit", path, "--seed", SEED, "--outputs", alone.outputs / name)
    say(alone, "run", "--until-done")
    assert {name: len(found) for name, found in results(alone).items()} == {"level1": JOBS, "level2": 4, "level3": 3}
    assert results(three) == results(alone)
