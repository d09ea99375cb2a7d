"""The main job over two sites that share nothing: inputs travel over home while engine and exchanges are killed; same bytes, nothing left anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from main_job import STEERING, WORK, Home, Result

from icp.ledger.check import check

pytestmark = pytest.mark.long

OTHER = """\
[site.other]
root = "{root}"
[site.other.attributes]
BIG = true
[site.other.pilot]
cpus = 2
memory = "4 GB"
disk = "1 GB"
idle = 0.3
"""
# left and right run at `local`, middle at `other`, the final task at `local` again
WHERE = {"left": "$attr(GPU)", "right": "$attr(GPU)", "middle": "$attr(BIG)", "whole": "$attr(GPU)"}


@pytest.fixture
def apart(make_apart: Callable[[str], Home]) -> Home:
    return make_apart("")


@pytest.fixture
def make_apart(make_home: Callable[..., Home], tmp_path: Path) -> Callable[[str], Home]:
    return lambda policy: _apart(make_home(more=OTHER.format(root=tmp_path / "other"), policy=policy))


def _apart(home: Home) -> Home:
    (home.home / "work.sh").write_text(WORK)
    text = STEERING.format(jobs=4)
    for name, said in WHERE.items():
        kind = "final" if name == "whole" else "task"
        assert f"[{kind}.{name}]\n" in text
        text = text.replace(f"[{kind}.{name}]\n", f'[{kind}.{name}]\nrequirements = "{said}"\n')
    (home.home / "steering.toml").write_text(text)
    home.submit_file(home.home / "steering.toml", seed=7)
    return home


def assert_nothing_left(home: Home, golden: Result) -> None:
    home.assert_result(golden)
    query = "SELECT d.name, count(DISTINCT t.site), min(s.name) FROM task t JOIN task_def d ON d.id = t.task_def JOIN site s ON s.id = t.site GROUP BY 1"
    placed = home.ask(query)
    assert sorted(placed) == [("left", 1, "local"), ("middle", 1, "other"), ("right", 1, "local"), ("whole", 1, "local")]
    assert not (home.home / "relay").exists()
    other = home.base.parent / "other" / home.spool.name
    for spool in (home.spool, other):
        for folder in ("incoming", "inbox", "store", "cache"):
            assert os.listdir(spool / folder) == [], (spool, folder)


@pytest.mark.parametrize("policy", ["", "retention = 0"])
def test_inputs_travel_between_sites(make_apart: Callable[[str], Home], golden: Result, policy: str) -> None:
    apart = make_apart(policy)
    apart.run()
    assert apart.kills == 0
    assert_nothing_left(apart, golden)
    if policy:
        apart.run()  # what is over for good goes with the next orders
        for spool in (apart.spool, apart.base.parent / "other" / apart.spool.name):
            for folder in ("agents", "fenced", "pilots", "logs"):
                assert os.listdir(spool / folder) == [], (spool, folder)


@pytest.mark.parametrize("point", ["engine.outbox", "engine.answered", "engine.ingested", "engine.home_renamed", "engine.unlinked"])
def test_engine_killed_while_inputs_travel(apart: Home, golden: Result, point: str) -> None:
    apart.run_until_spent(**apart.faults(*(f"{point}:{n}" for n in (1, 2, 3, 4))))
    assert apart.kills >= 4
    assert_nothing_left(apart, golden)


def test_exchange_killed_while_it_brings_and_drops_inputs(apart: Home, golden: Result) -> None:
    kinds = ("blob:1", "blob:2", "blob:3", "drop:1", "drop:2", "drop:3")
    apart.run_until_spent(**apart.faults(*(f"exchange.moved:{kind}" for kind in kinds)))
    assert_nothing_left(apart, golden)


LARGE = """\
name = "large"
jobs = 2
files = ["make.py"]

[task.make]
requirements = "$attr(GPU)"
command = "python3 make.py $args(seed) 20000000 big.bin"
outputs = ["big.bin"]
resources = { memory = "100 MB", disk = "100 MB" }

[task.read]
requirements = "$attr(BIG)"
inputs = ["make:big.bin"]
command = "sha256sum < big.bin > sum.txt; head -c 9000000 big.bin > half.bin"
outputs = ["sum.txt", "half.bin"]
resources = { memory = "100 MB", disk = "100 MB" }
"""
MAKE = "import random, sys; open(sys.argv[3], 'wb').write(random.Random(int(sys.argv[1])).randbytes(int(sys.argv[2])))\n"


@pytest.mark.parametrize(
    "points",
    [
        (),
        ("engine.fetched:1", "engine.fetched:2", "engine.home_renamed:1", "engine.home_renamed:2"),
        ("receive.written:3", "receive.written:40", "receive.whole:1"),
        ("engine.outbox:2", "engine.answered:3", "engine.sent:4"),
    ],
    ids=lambda points: points[0] if points else "undisturbed",
)
def test_large_files_travel_by_themselves(make_home: Callable[..., Home], tmp_path: Path, points: tuple[str, ...]) -> None:
    home = make_home(more=OTHER.format(root=tmp_path / "other"))
    (home.home / "make.py").write_text(MAKE)
    (home.home / "steering.toml").write_text(LARGE)
    home.submit_file(home.home / "steering.toml", seed=7)
    if points:
        home.run_until_spent(**home.faults(*points))
        assert home.unspent() == []
    else:
        home.run()
    sums = []
    for job in ("000000", "000001"):
        sums.append((home.outputs / job / "sum.txt").read_text().split()[0])
        assert (home.outputs / job / "half.bin").stat().st_size == 9_000_000
    made = home.ask("SELECT lower(hex(f.sha256)) FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.accepted = a.id "
                    "WHERE f.name = 'big.bin' ORDER BY t.job")  # fmt: skip
    assert sums == [row[0] for row in made]
    assert home.ask("SELECT max(length(body)) FROM outbox")[0][0] in (None, 0)
    assert not (home.home / "relay").exists()
    home.assert_clean()
    assert os.listdir(tmp_path / "other" / home.spool.name / "cache") == []
    ledger = home.ledger()
    assert check(ledger, deep=True) == []
    ledger.close()
