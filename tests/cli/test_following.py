"""Jobs that are made from another dataset's outputs as they come, and from groups of them; the datasets are submitted all at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from icp.ledger.check import check
from icp.ledger.db import open_ledger

pytestmark = pytest.mark.long

JOBS = 24
LEVEL1 = f"""\
name = "level1"
seed = 1
jobs.scan = {{ energy = [1, 10, 100], n = {JOBS // 3} }}
command = "echo $args(seed) > made.txt; echo $args(energy) $args(job) >> made.txt"
outputs = ["made.txt"]
"""
LEVEL2 = """\
name = "level2"
seed = 2
jobs = { from = "dataset:level1/main:made.txt", FOLLOW }
[task.clean]
command = "sed s/^/clean-/ $args(files) > clean.txt"
outputs = ["clean.txt"]
[task.select]
inputs = ["clean:clean.txt"]
command = "cat clean.txt > level2.txt; echo of $args(source_job) >> level2.txt"
outputs = ["level2.txt"]
"""
LEVEL3 = """\
name = "level3"
seed = 3
jobs = { from = "dataset:level2/select:level2.txt", group_by = "$eval($args(source_job) % 3)", FOLLOW }
[task.merge]
command = "sort $args(files) > level3.txt; echo $args(source_group) >> level3.txt"
outputs = ["level3.txt"]
[final.all]
inputs = ["merge:level3.txt[*]"]
command = "sort $(cat inputs.list) > sum.txt"
outputs = ["sum.txt"]
"""
LEVELS = (("level1", LEVEL1), ("level2", LEVEL2), ("level3", LEVEL3))


@pytest.fixture
def ledger():
    one = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite", create=True)
    yield one
    assert check(one, deep=True) == []
    one.close()


def submit(icp, folder, name, text, *, follow=True):
    (folder / f"{name}.toml").write_text(text.replace("FOLLOW", f"follow = {str(follow).lower()}"))
    done = icp("submit", folder / f"{name}.toml")
    assert done.rc == 0, done.err


def finish(icp):
    done = icp("run", "--until-done", timeout=110)
    assert done.rc == 0, done.err


def told(icp, *words):
    return json.loads(icp(*words, "--json").out)


def results(folder):
    """What level 3 made, whatever number its jobs have: sets of files by group, and the sum over all."""
    merged = sorted(path.read_text() for path in folder.glob("outputs/level3/0*/level3.txt"))
    return merged, (folder / "outputs/level3/final/000000/sum.txt").read_text()


def test_three_levels_at_once_under_kills_make_what_they_make_one_after_the_other(icp, tmp_path, ledger, monkeypatch):
    for name, text in LEVELS:
        submit(icp, tmp_path, name, text)
    assert told(icp, "status")["datasets"][2]["follows"] == "level2"
    kills = 0
    for pause in (0.8, 1.2, 0.5, 1.5, 0.9, 1.1):
        engine = subprocess.Popen([sys.executable, "-m", "icp", "run"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            engine.wait(pause)
        except subprocess.TimeoutExpired:
            engine.send_signal(signal.SIGKILL)
            engine.wait()
            kills += 1
        assert check(ledger) == [], "whatever instruction it was killed at"
    assert kills == 6
    finish(icp)
    assert [one["state"] for one in told(icp, "status")["datasets"]] == ["complete"] * 3
    assert check(ledger, deep=True) == []
    merged, total = results(tmp_path)
    assert len(merged) == 3 and total.count("of ") == JOBS
    assert sorted(int(line.split()[1]) for line in total.splitlines() if line.startswith("of ")) == list(range(JOBS)), "each job of level 1 once"
    seeds = {int(path.read_text().split()[0]) for path in tmp_path.glob("outputs/level1/0*/made.txt")}
    seen = set()
    for path in sorted(tmp_path.glob("outputs/level3/0*/level3.txt")):
        attempts = told(icp, "provenance", path)["attempts"]
        of_level = {level: [one for one in attempts if one["dataset"]["name"] == level] for level in ("level1", "level2", "level3")}
        assert len(of_level["level3"]) == 1 and len(of_level["level2"]) == 2 * len(of_level["level1"]) == 2 * JOBS // 3
        seen |= {one["seed"] for one in of_level["level1"]}
        assert {f"clean-{one['seed']}" for one in of_level["level1"]} == {line for line in path.read_text().splitlines() if len(line) > 15}
    assert seen == seeds and len(seen) == JOBS, "every file of level 3 is followed to the seeds of level 1"

    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.setenv("ICP_HOME", str(alone / "home"))
    for name, text in LEVELS:
        submit(icp, alone, name, text, follow=False)
        finish(icp)
    assert results(alone) == (merged, total), "the same bytes"


PARENT = """\
name = "parent"
jobs = 4
[task.make]
command = "test ! -e FOLDER/fails.$args(job) && cat FOLDER/says > out.txt && echo $args(job) >> out.txt"
max_tries = 1
outputs = ["out.txt"]
"""
CHILD = """\
name = "child"
jobs = { from = "dataset:parent/make:out.txt", follow = true, group = 3 }
command = "cat $args(files) > all.txt; test ! -e FOLDER/hold"
max_tries = 1
outputs = ["all.txt"]
"""


@pytest.fixture
def pair(icp, tmp_path, ledger):
    """``pair(text, fails=[3])``: a parent of four jobs and what follows it."""

    def made(child=CHILD, *, fails=()):
        (tmp_path / "says").write_text("one\n")
        for job in fails:
            (tmp_path / f"fails.{job}").touch()
        submit(icp, tmp_path, "parent", PARENT.replace("FOLDER", str(tmp_path)))
        submit(icp, tmp_path, "child", child.replace("FOLDER", str(tmp_path)))
        finish(icp)
        assert check(ledger) == []
        return tmp_path

    return made


def state(icp, name):
    return next((one["state"], one["jobs"]) for one in told(icp, "status")["datasets"] if one["name"] == name)


def test_a_group_waits_until_it_is_full_or_the_parent_is_complete_and_the_child_with_it(icp, pair, ledger):
    folder = pair(fails=[1])
    assert state(icp, "child") == ("processing", 1), "three came, and one group is full"
    screen = icp("status").out
    assert " 1+ " in screen
    why = icp("why", "child").out
    assert "it waits for outputs of dataset parent, which is in error" in why and "icp retry parent" in why
    assert "a job of 1 task for each group of files of dataset:parent/make:out.txt" in icp("validate", "child.toml").out
    (folder / "fails.1").unlink()
    assert icp("retry", "parent").rc == 0
    finish(icp)
    assert state(icp, "child") == ("complete", 2) and state(icp, "parent")[0] == "complete"
    assert (folder / "outputs/child/000001/all.txt").read_text() == "one\n1\n"
    assert "waits for outputs" not in icp("why", "child").out


def test_a_parent_that_is_cancelled_closes_the_last_group_with_what_there_is(icp, pair):
    folder = pair(CHILD.replace("group = 3", "group = 9"), fails=[2])
    assert state(icp, "child") == ("processing", 0)
    assert icp("jobs", "child").rc == 0 and icp("show", "child").rc == 0 and icp("status", "child").rc == 0 and icp("stats", "child").rc == 0
    assert "no job yet" in icp("why", "child", "--job", "0").err and "no job yet" in icp("cancel", "child", "--dry-run").out
    assert "more jobs come with outputs of dataset parent" in icp("why", "child").out and "complete" not in icp("why", "child").out
    assert icp("cancel", "parent", "--yes").rc == 0
    finish(icp)
    assert state(icp, "child") == ("complete", 1)
    assert (folder / "outputs/child/000000/all.txt").read_text() == "one\n0\none\n1\none\n3\n"


def test_a_child_that_is_suspended_takes_what_came_meanwhile_when_it_goes_on(icp, pair, ledger):
    folder = pair(fails=[0, 1, 2, 3])
    assert icp("suspend", "child").rc == 0
    for job in range(4):
        (folder / f"fails.{job}").unlink()
    assert icp("retry", "parent").rc == 0
    finish(icp)
    assert state(icp, "child") == ("suspended", 0) and state(icp, "parent")[0] == "complete"
    assert check(ledger, deep=True) == []
    # gc of a deleted parent leaves what the child will take
    assert icp("delete", "parent", "--yes").rc == 0 and icp("gc", "--outputs", "--yes").rc == 0
    assert icp("resume", "child").rc == 0
    finish(icp)
    assert state(icp, "child") == ("complete", 2)


def test_a_cancelled_child_follows_no_more_and_a_deleted_name_is_free(icp, pair, ledger):
    folder = pair(fails=[3])
    assert icp("cancel", "child", "--yes").rc == 0
    (folder / "fails.3").unlink()
    assert icp("retry", "parent").rc == 0
    finish(icp)
    assert state(icp, "child") == ("cancelled", 1)
    for left in ("arrival", "follow", "source WHERE job IS NULL"):
        assert ledger.db.execute(f"SELECT count(*) FROM {left}").fetchone() == (0,)
    assert icp("delete", "child", "--yes").rc == 0


def test_a_complete_child_goes_on_when_its_parent_is_extended(icp, pair):
    folder = pair()
    assert state(icp, "child") == ("complete", 2)
    assert icp("extend", "parent", "--jobs", "4").rc == 0
    finish(icp)
    assert state(icp, "child") == ("complete", 4), "groups that were closed stay as they were"
    assert sorted(line for path in folder.glob("outputs/child/*/all.txt") for line in path.read_text().split() if line != "one") == list("01234567")


def test_what_is_made_again_with_the_same_bytes_changes_nothing(icp, pair, ledger):
    pair()
    assert icp("reset", "parent", "--jobs", "0", "--yes").rc == 0
    assert "is being made again" in icp("why", "child").out
    finish(icp)
    assert state(icp, "child") == ("complete", 2) and check(ledger, deep=True) == []
    assert "counts no more" not in icp("why", "child").out and told(icp, "verify", "child")["sources"] == []
    assert icp("reset", "child", "--jobs", "0", "--yes").rc == 0
    finish(icp)
    assert state(icp, "child") == ("complete", 2)


def test_what_is_made_again_with_other_bytes_is_said_and_taken_by_a_reset_only(icp, pair, ledger):
    folder = pair(CHILD.replace("group = 3", "group = 4"))
    before = (folder / "outputs/child/000000/all.txt").read_bytes()
    (folder / "says").write_text("two\n")
    assert icp("reset", "parent", "--jobs", "0", "--yes").rc == 0
    finish(icp)
    assert (folder / "outputs/child/000000/all.txt").read_bytes() == before and state(icp, "child") == ("complete", 1)
    why = icp("why", "child")
    assert "was made from what counts no more in dataset parent" in why.out and "icp reset child --job 0" in why.out
    (changed,) = told(icp, "verify", "child")["sources"]
    assert (changed["job"], changed["source_job"], changed["again"]) == (0, 0, False) and changed["now"] not in (None, changed["sha256"])
    assert "and is" in icp("verify", "child", "--jobs", "0").out
    # provenance goes on to name the attempt whose bytes were read
    reads = told(icp, "provenance", folder / "outputs/child/000000/all.txt")
    assert changed["sha256"] in {read["sha256"] for one in reads["attempts"] for read in one["inputs"]}
    assert icp("reset", "child", "--jobs", "0", "--yes").rc == 0
    finish(icp)
    assert (folder / "outputs/child/000000/all.txt").read_text() == "two\n0\none\n1\none\n2\none\n3\n"
    assert told(icp, "verify", "child")["sources"] == [] and check(ledger, deep=True) == []


def test_a_job_that_has_not_run_is_never_made_from_other_bytes_than_it_was_given(icp, pair):
    folder = pair(CHILD.replace("group = 3", "group = 4").replace("command", "stop_loss = 0\ncommand"))
    (folder / "hold").touch()
    assert icp("reset", "child", "--jobs", "0", "--yes").rc == 0
    finish(icp)
    assert state(icp, "child")[0] == "errors"
    (folder / "says").write_text("two\n")
    assert icp("reset", "parent", "--jobs", "0", "--yes").rc == 0
    (folder / "hold").unlink()
    assert icp("retry", "child").rc == 0
    finish(icp)
    assert state(icp, "child")[0] == "suspended"
    why = icp("why", "child").out
    assert "with other bytes" in why and "icp reset child --job 0" in why
    assert icp("reset", "child", "--jobs", "0", "--yes").rc == 0 and icp("resume", "child").rc == 0
    finish(icp)
    assert (folder / "outputs/child/000000/all.txt").read_text() == "two\n0\none\n1\none\n2\none\n3\n"


def test_what_makes_no_sense_of_a_dataset_that_follows_is_refused_in_a_sentence(icp, pair):
    pair(fails=[3])
    refused = icp("extend", "child", "--jobs", "3")
    assert refused.rc != 0 and "made from outputs of dataset parent" in refused.err and "icp extend parent" in refused.err
    refused = icp("submit", "child.toml", "--replace", "child")
    assert refused.rc == 2 and "made from another dataset's outputs" in refused.err


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ('{ from = "dataset:parent/make:out.txt" }', "jobs are made of a complete one; `follow = true`"),
        ('{ from = "dataset:parent/make:out.txt", follow = true, group_by = "$args(energy)" }', "energy"),
        ('{ from = "dataset:parent/make:out.txt", follow = true, group_by = "$system(x)" }', "has a value only in a command"),
        ('{ from = "dataset:parent/make:out.txt", follow = true, group = 0 }', "group"),
        ("{ scan = { a = 3 }, group = 2 }", "jobs.scan makes a job of each"),
        ("{ group = 2 }", "none of scan, csv, files and from"),
    ],
)  # fmt: skip
def test_mistakes_of_a_chain_are_mistakes_of_the_file(icp, tmp_path, ledger, jobs, message):
    submit(icp, tmp_path, "parent", PARENT.replace("FOLDER", str(tmp_path)))
    (tmp_path / "child.toml").write_text(f'name = "child"\njobs = {jobs}\ncommand = "true"\n')
    done = icp("submit", "child.toml")
    assert done.rc == 2 and message in done.err and "child.toml:2" in done.err, done.err
    (tmp_path / "child.toml").write_text('name = "child"\njobs = { from = "dataset:parent/make:out.txt", follow = true }\ncommand = "echo $args(jobs)"\n')
    assert "nobody knows how many there will be" in icp("submit", "child.toml").err
