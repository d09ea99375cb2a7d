"""A dataset described anew: what is described as before stays, the rest is done again, and old files are followed to the old description."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from icp import cli
from icp.ledger.check import check
from icp.ledger.control import Control
from icp.ledger.db import open_ledger
from icp.ledger.definitions import Definitions

pytestmark = pytest.mark.long

OLD = """\
name = "chain"
seed = 7
files = ["tool.sh"]
jobs = 3

[task.make]
command = "sh tool.sh $args(job) > raw.txt"
outputs = [{{ name = "raw.txt", keep = true }}]

[task.use]
inputs = ["make:raw.txt"]
command = "sed s/^/{0}/ raw.txt > used.txt"
outputs = ["used.txt"]

[final.all]
inputs = ["use:used.txt[*]"]
command = "cat inputs/use/*/* > all.txt"
outputs = ["all.txt"]
"""


def write(folder, text=None, tool='echo "job $1"\n'):
    (folder / "chain.toml").write_text(text or OLD.format("old"))
    (folder / "tool.sh").write_text(tool)


@pytest.fixture
def ran(icp, tmp_path):
    write(tmp_path)
    assert icp("submit", "chain.toml").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    return tmp_path


def plan(icp, *words):
    done = icp("submit", "chain.toml", "--replace", "chain", "--dry-run", "--json", *words)
    assert done.rc == 0, done.err
    said = json.loads(done.out)
    return said["again"], said["kept"], {one["task"]: [(span["first"], span["last"]) for span in one["jobs"]] for one in said["changed"]}


def clean():
    ledger = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite")
    found = check(ledger, deep=True)
    ledger.close()
    return found


def test_a_task_described_otherwise_is_done_again_with_what_follows_and_the_rest_stays(icp, ran):
    final = ran / "outputs/chain/final/000000/all.txt"
    assert final.read_text() == "oldjob 0\noldjob 1\noldjob 2\n"
    (ran / "old.txt").write_bytes(final.read_bytes())
    before = {one["name"] + str(one["job"]): one["sha256"] for one in json.loads(icp("outputs", "chain", "--every", "--json").out)}
    write(ran, OLD.format("new"))
    assert plan(icp) == (4, 3, {"use": [(0, 2)]})
    assert json.loads(icp("status", "--json").out)["datasets"][0]["state"] == "complete", "a dry run changes nothing"
    done = icp("submit", "chain.toml", "--replace", "chain", "--yes")
    assert done.rc == 0, done.err
    assert "revision 2 now: 4 tasks that were ok will be done again, 3 stay" in done.out
    assert clean() == []
    assert icp("run", "--until-done", timeout=100).rc == 0
    assert final.read_text() == "newjob 0\nnewjob 1\nnewjob 2\n"
    assert clean() == []
    after = {one["name"] + str(one["job"]): one["sha256"] for one in json.loads(icp("outputs", "chain", "--every", "--json").out)}
    assert {key for key in before if before[key] == after[key]} == {"raw.txt0", "raw.txt1", "raw.txt2"}
    # old and new files are each followed to what described them
    assert icp("provenance", final, "--steering").out == OLD.format("new")
    assert icp("provenance", "old.txt", "--steering").out == OLD.format("old")
    old = json.loads(icp("provenance", "old.txt", "--json").out)["attempts"]
    assert {one["dataset"]["revision"] for one in old} == {1} and [one["task"] for one in old].count("use") == 3
    assert "s/^/old/" in next(one for one in old if one["task"] == "use")["commands"][0][-1]
    new = json.loads(icp("provenance", final, "--json").out)["attempts"]
    assert {one["task"]: one["dataset"]["revision"] for one in new} == {"all": 2, "use": 2, "make": 1}
    assert icp("verify", "chain").rc == 0


def test_inputs_that_are_gone_are_made_again_and_that_is_said(icp, tmp_path):
    write(tmp_path, OLD.format("old").replace(", keep = true", ""))
    assert icp("submit", "chain.toml").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    write(tmp_path, OLD.format("new").replace(", keep = true", ""))
    assert plan(icp) == (7, 0, {"use": [(0, 2)]})
    assert "and what they read, where that is gone: make" in icp("submit", "chain.toml", "--replace", "chain", "--dry-run").out


def test_what_is_the_same_in_other_words_is_not_done_again(icp, ran):
    write(ran, "# a comment\n" + OLD.format("old").replace("$args(job)", "$eval($args(job) + 0)") + 'resources = { memory = "1 GB" }\n')
    assert plan(icp) == (0, 7, {})
    write(ran, OLD.format("old").replace("$args(job)", "$eval($args(job) * (1 if $args(job) < 2 else 5))"))
    again, kept, changed = plan(icp)
    assert (again, kept, changed) == (3, 4, {"make": [(2, 2)]}), "only job 2 is another"


def test_a_number_of_jobs_that_was_given_beside_the_file_stays(icp, tmp_path):
    write(tmp_path)
    assert icp("submit", "chain.toml", "--jobs", 5).rc == 0
    assert icp("extend", "chain", "--jobs", 2).rc == 0
    write(tmp_path, OLD.format("new"))
    assert icp("submit", "chain.toml", "--replace", "chain", "--yes").rc == 0
    assert json.loads(icp("status", "--json").out)["datasets"][0]["jobs"] == 7
    assert "there is nothing to do" in icp("submit", "chain.toml", "--replace", "chain", "--yes").out
    assert clean() == []


def test_other_files_do_all_again_unless_they_are_ignored_and_more_jobs_are_new(icp, ran):
    write(ran, tool='echo "another $1"\n')
    assert plan(icp)[:2] == (7, 0)
    assert plan(icp, "--ignore-files") == (0, 7, {})
    write(ran, OLD.format("old").replace("jobs = 3", "jobs = 4"))
    done = icp("submit", "chain.toml", "--replace", "chain", "--yes")
    assert done.rc == 0, done.err
    assert clean() == []
    assert icp("run", "--until-done", timeout=100).rc == 0
    assert (ran / "outputs/chain/final/000000/all.txt").read_text().count("\n") == 4
    assert clean() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (OLD.format("old").replace("task.use", "task.other").replace('"use:', '"other:'), 2),
        (OLD.format("old").replace("jobs = 3", "jobs = 2"), 2),
        (OLD.format("old").replace("seed = 7", "seed = 8"), 2),
        (OLD.format("old").replace('outputs = ["used.txt"]', 'outputs = ["used.txt", "more.txt"]'), 2),
        (OLD.format("old").replace('"make:raw.txt"', ""), 2),
    ],
)
def test_what_cannot_be_replaced_is_refused_and_nothing_changed(tmp_path, text, code, capsys, monkeypatch):
    from icp.engine import submission

    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    ledger = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite", create=True)
    submission.submit(ledger, submission.prepare(Path("chain.toml")), 1.0)
    before = list(ledger.db.iterdump())
    write(tmp_path, text)
    assert cli.main(["submit", "chain.toml", "--replace", "chain", "--yes"]) == code
    assert "icp: " in capsys.readouterr().err
    assert list(ledger.db.iterdump()) == before
    ledger.close()


def test_killed_half_way_the_same_command_finds_the_same_to_do(icp, ran, monkeypatch):
    """The old description stays until everything that it made is taken back."""
    write(ran, OLD.format("new"))
    ledger = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite")
    from icp import config
    from icp.engine import replacement, submission

    prepared = submission.prepare(ran / "chain.toml", seed=7)
    one = replacement.Replacement(ledger, 1, prepared, config.load().sites.values(), 2e9)
    redo = one.compare()

    class Killed(Exception):
        pass

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(replacement.replacing, "switch", killed)
    with pytest.raises(Killed):
        one.carry_out(redo)
    monkeypatch.undo()
    assert ledger.db.execute("SELECT state, reason FROM dataset").fetchall() == [(1, "it is being replaced")]
    again = replacement.Replacement(ledger, 1, prepared, [], 2e9 + 1)
    assert again.compare().changed == redo.changed
    assert again.carry_out(again.compare()) == (2, True)
    assert check(ledger) == []
    ledger.close()


def test_what_was_cancelled_or_suspended_stays_so(tmp_path, monkeypatch):
    from icp import config
    from icp.engine import replacement, submission
    from tests.ledger.build import World

    monkeypatch.chdir(tmp_path)
    world = World(Path(os.environ["ICP_HOME"]), path=Path(os.environ["ICP_HOME"]) / "ledger.sqlite")
    write(tmp_path)
    submission.submit(world.ledger, submission.prepare(Path("chain.toml")), 1.0)
    agent = world.agent()
    world.release(1)
    tries = world.deal(1, task="make")
    world.claim(agent, *tries)
    world.ended(agent, tries[0])
    control = Control(world.ledger, Definitions(world.db), 1, 3.0)
    control.cancel_jobs(1, 1)
    control.suspend_jobs(2, 2)
    write(tmp_path, OLD.format("new").replace("sh tool.sh", "sh ./tool.sh"))
    one = replacement.Replacement(world.ledger, 1, submission.prepare(Path("chain.toml"), seed=7), config.load().sites.values(), 4.0)
    assert one.carry_out(one.compare()) == (2, True)
    words = {job: [row[0] for row in world.db.execute("SELECT state FROM task WHERE job = ? ORDER BY task_def", (job,))] for job in range(3)}
    assert words == {0: [1, 0], 1: [7, 7], 2: [6, 6]}
    world.ended(agent, tries[2])  # it ran after the old description: it does not count any more
    assert [row[0] for row in world.db.execute("SELECT state FROM task WHERE job = 2 ORDER BY task_def")] == [6, 6]
    assert check(world.ledger) == []
    world.close()


def test_software_of_the_new_description_is_fetched_before_anything_is_done_again(icp, ran):
    with tarfile.open(ran / "t.tar.gz", "w:gz") as made:
        (ran / "README").write_text("it")
        made.add(ran / "README", "bin/README")
        made.add(ran / "README", "README")
    sha256 = hashlib.sha256((ran / "t.tar.gz").read_bytes()).hexdigest()
    more = OLD.format("old").replace("[task.use]\n", '[task.use]\nsoftware = "it"\n')
    software = '\n[software.it]\ntarball = [{ url = "t.tar.gz", sha256 = "%s" }]\n'
    write(ran, more + software % ("0" * 64))
    refused = icp("submit", "chain.toml", "--replace", "chain", "--yes")
    assert refused.rc == 2 and f"it has sha256 {sha256}, expected {'0' * 64}" in refused.err
    write(ran, more + software % sha256)
    assert icp("submit", "chain.toml", "--replace", "chain", "--yes").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    assert sha256[:12] in icp("show", "chain", "--job", "0").out and clean() == []
