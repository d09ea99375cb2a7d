"""Production chains: the jobs of a dataset are made from the outputs of another one, and every file is followed through all of them."""

import json
import os
from pathlib import Path

import pytest

from icp.ledger.check import check
from icp.ledger.db import open_ledger

pytestmark = pytest.mark.long

LEVEL1 = """\
name = "level1"
seed = 1
jobs = 2
command = "echo event $args(job) > 'level 1.txt'"
outputs = ["level 1.txt"]
"""
LEVEL2 = """\
name = "level2"
seed = 2
jobs.from = "dataset:level1/main:level 1.txt"

[task.clean]
command = "sed s/event/clean/ $args(files) > clean.txt"
outputs = ["clean.txt"]

[task.select]
inputs = ["clean:clean.txt"]
command = "cat clean.txt > level2.txt; echo from job $args(source_job) of $args(source_dataset) >> level2.txt; ls >> level2.txt"
outputs = ["level2.txt"]
"""
LEVEL3 = """\
name = "level3"
seed = 3
jobs.from = "dataset:level2/select:level2.txt"
command = "cat level2.txt > level3.txt"
outputs = ["level3.txt"]
"""


@pytest.fixture
def chain(icp, tmp_path):
    """Three levels, each done before the next is submitted."""
    for name, text in (("level1", LEVEL1), ("level2", LEVEL2), ("level3", LEVEL3)):
        (tmp_path / f"{name}.toml").write_text(text)
        done = icp("submit", f"{name}.toml")
        assert done.rc == 0, done.err
        assert icp("run", "--until-done", timeout=100).rc == 0
    return tmp_path


def test_files_go_through_all_levels_and_are_followed_back_through_all(icp, chain):
    final = chain / "outputs/level3/000001/level3.txt"
    assert final.read_text() == "clean 1\nfrom job 1 of level1\nclean.txt\nlevel2.txt\n"
    told = json.loads(icp("provenance", final, "--json").out)
    assert [(one["dataset"]["name"], one["task"], one["job"]) for one in told["attempts"]] == [
        ("level3", "main", 1), ("level2", "select", 1), ("level2", "clean", 1), ("level1", "main", 1),
    ]  # fmt: skip
    by = {one["attempt"]: one for one in told["attempts"]}
    for one in told["attempts"]:
        for read in one["inputs"]:
            assert read["sha256"] in {file["sha256"] for file in by[read["attempt"]]["outputs"]}
    ledger = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite")
    assert check(ledger, deep=True) == []
    ledger.close()
    for level in ("level2", "level3"):
        assert icp("rerun", level, "--job", 1, "--local").rc == 0
    assert icp("export", "level3", "-o", "level3").rc == 0
    assert "level2.txt" in (chain / "level3/inputs.csv").read_text()
    # what a chain reads is not garbage, also where its own dataset is deleted
    assert icp("delete", "level2", "--yes").rc == 0
    assert icp("gc", "--outputs", "--yes").rc == 0
    assert (chain / "outputs/level2/000001/level2.txt").exists()
    assert icp("delete", "level3", "--yes").rc == 0
    assert "freed" in icp("gc", "--outputs", "--yes").out
    assert not (chain / "outputs/level2/000001/level2.txt").exists() and (chain / "outputs/level1/000001/level 1.txt").exists()


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("dataset:level0/main:level 1.txt", "level0"), ("dataset:level1/mian:level 1.txt", "no task 'mian'"),
        ("dataset:level1/main:x.txt", "no output 'x.txt'"), ("level1", "dataset:NAME/task:output"),
        ("dataset:level1/main:level 1.txt", "is processing"),
    ],
)  # fmt: skip
def test_what_is_no_output_of_a_complete_dataset_is_a_mistake_of_the_file(icp, tmp_path, source, part):
    (tmp_path / "level1.toml").write_text(LEVEL1)
    assert icp("submit", "level1.toml").rc == 0
    (tmp_path / "level2.toml").write_text(LEVEL2.replace("dataset:level1/main:level 1.txt", source))
    done = icp("submit", "level2.toml")
    assert done.rc == 2 and part in done.err and "level2.toml:3" in done.err
    assert icp("status", "-q").out == "level1\n"
    if source.startswith("dataset:"):
        assert icp("validate", "level2.toml").rc == 0, "what is there is looked at when it is submitted"


def test_a_source_that_went_stops_what_reads_it_and_says_so(icp, tmp_path):
    (tmp_path / "level1.toml").write_text(LEVEL1)
    (tmp_path / "level2.toml").write_text(LEVEL2)
    assert icp("submit", "level1.toml").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    gone = tmp_path / "outputs/level1/000000/level 1.txt"
    data = gone.read_bytes()
    gone.unlink()
    assert icp("submit", "level2.toml").rc == 0
    icp("run", "--once")
    why = icp("why", "level2").out
    assert "from which job 0 is made, is not there any more" in why and "icp resume level2" in why
    gone.write_bytes(data)
    assert icp("resume", "level2").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    assert (tmp_path / "outputs/level2/000000/level2.txt").read_text().startswith("clean 0")
