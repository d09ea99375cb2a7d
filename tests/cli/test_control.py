"""The commands that order: what changes, what is refused, what is asked, and that a dry run changes nothing."""

import os
from pathlib import Path

import pytest

from icp.ledger.check import check
from icp.ledger.views import one_dataset
from icp.states import Task
from tests.ledger.build import task

DEFS = (task("a", outputs=["a.txt"], max_tries=1), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))


@pytest.fixture
def dataset(world):
    """Jobs 0 ok, 1 failed, 2 queued, 3-9 no rows."""
    number = world.submit(10, *DEFS, name="muons")
    agent = world.agent()
    world.release(number, 3)
    tries = world.deal(number)
    world.claim(agent, *tries[:2])
    world.ended(agent, tries[0])
    world.ended(agent, tries[1], result="error")
    (second,) = world.deal(number, task="b")
    world.claim(agent, second)
    world.ended(agent, second)
    return number


def test_suspend_and_resume_a_dataset(world, dataset, run):
    assert "is suspended; `icp resume muons` goes on" in run("suspend", "muons")
    assert one_dataset(world.db, dataset).state == "suspended"
    assert "cannot be told to suspend" in run("suspend", "muons", code=4)
    assert "goes on" in run("resume", "muons")
    assert one_dataset(world.db, dataset).state == "processing"


def test_suspend_and_resume_jobs_with_and_without_rows(world, dataset, run):
    assert run("suspend", "muons", "--jobs", "2-4").startswith("jobs 2-4 of dataset muons: suspended")
    view = one_dataset(world.db, dataset)
    assert (view.suspended, view.state) == (6, "processing")
    assert world.state(dataset, 2, "a") == Task.SUSPENDED
    run("resume", "muons", "--jobs", "2-4")
    assert one_dataset(world.db, dataset).suspended == 0


def test_orders_take_lists_of_jobs(world, dataset, run):
    assert run("suspend", "muons", "--job", "7,2-4", "--job", "9-").startswith("jobs 2-4, 7, 9 of dataset muons: suspended")
    assert one_dataset(world.db, dataset).suspended == 10
    assert run("jobs", "muons", "--state", "suspended", "-q") == "2\n3-4\n7\n9\n"
    assert run("jobs", "muons", "--job", "0,2-3,8-", "-q").split() == ["0", "2", "3", "8", "9"]
    assert run("tasks", "muons", "-j", "1", "--job", "0", "-q") == "0 a\n0 b\n1 a\n1 b\n"
    assert ": 1 job at work or done; 2 jobs that are suspended;" in run("resume", "muons", "--job", "2-3,7", "--dry-run")
    run("resume", "muons", "--job", "2-")
    assert one_dataset(world.db, dataset).suspended == 0
    run("set", "muons", "priority", "4", "--job", "0,1")
    assert world.db.execute("SELECT DISTINCT job FROM task WHERE priority = 4").fetchall() == [(0,), (1,)]


def test_retry_sends_what_failed_and_only_that(world, dataset, run):
    assert "1 failed task will go again" in run("retry", "muons")
    assert world.state(dataset, 1, "a") == Task.WAITING
    assert world.state(dataset, 0, "a") == Task.OK
    assert "nothing has failed" in run("retry", "muons")


def test_reset_a_job_and_a_task(world, dataset, run):
    assert "job 0 of dataset muons: will be done anew (2 tasks)" in run("reset", "muons", "--jobs", "0", "--yes")
    assert (world.state(dataset, 0, "a"), world.state(dataset, 0, "b")) == (Task.WAITING, Task.IDLE)
    run("reset", "muons", "--task", "b", "--yes")


def test_cancel_jobs_that_do_not_exist_yet_and_then_all(world, dataset, run):
    run("cancel", "muons", "--jobs", "5-9", "--yes")
    assert one_dataset(world.db, dataset).cancelled == 10
    assert "is cancelled; 2 tasks had been ok" in run("cancel", "muons", "--yes")
    assert "nothing is left to cancel" in run("cancel", "muons", "--yes", code=4)
    assert "is cancelled" in run("retry", "muons", code=4)


def test_ten_million_jobs_are_told_at_once(world, run):
    number = world.submit(10_000_000, *DEFS, name="big")
    run("cancel", "big", "--jobs", "1000000-1999999", "--yes")
    run("suspend", "big", "--jobs", "0-99")
    run("set", "big", "priority", "7", "--jobs", "5000000-5000009")
    view = one_dataset(world.db, number)
    assert (view.cancelled, view.suspended) == (2_000_000, 200)
    assert world.release(number, 3) == [5_000_000, 5_000_001, 5_000_002]


def test_priority_of_a_dataset(world, dataset, run):
    run("set", "muons", "priority", "10")
    assert one_dataset(world.db, dataset).priority == 10
    for words in (("set", "muons", "priority", "x"), ("set", "muons", "priority", "5001"), ("set", "muons", "colour", "1")):
        run(*words, code=2)
    assert one_dataset(world.db, dataset).priority == 10


def test_delete_only_what_ended_and_by_its_full_name(world, dataset, run):
    assert "`icp cancel muons` first" in run("delete", "muons", "--yes", code=4)
    run("cancel", "muons", "--yes")
    assert "only the beginning of a name" in run("delete", "muo", "--yes", code=2)
    assert "is forgotten; its outputs stay in" in run("delete", "muons", "--yes")
    run("show", "muons", code=3)


@pytest.mark.parametrize("word", ["suspend", "resume", "retry", "reset", "cancel"])
@pytest.mark.parametrize("span", [(), ("--jobs", "1-5"), ("--jobs", "2", "--task", "a")])
def test_a_dry_run_changes_nothing(world, dataset, run, word, span):
    before = list(world.db.iterdump())
    assert "nothing was changed" in run(word, "muons", *span, "--dry-run")
    assert list(world.db.iterdump()) == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("cancel", "muons", "--jobs", "5-20", "--yes"), 2),
        (("cancel", "muons", "--jobs", "-3", "--yes"), 2),
        (("cancel", "muons", "--job", "1-5,x", "--yes"), 2),
        (("cancel", "muons", "--job", "1", "--job", "30", "--yes"), 2),
        (("reset", "muons", "--task", "c", "--yes"), 3),
        (("suspend", "x"), 3),
        (("delete", "x"), 3),
    ],
)
def test_bad_input_changes_nothing(world, dataset, run, words, code):
    before = list(world.db.iterdump())
    run(*words, code=code)
    assert list(world.db.iterdump()) == before


@pytest.mark.parametrize("word", ["cancel", "reset"])
def test_a_terminal_is_asked_first(world, dataset, run, word, monkeypatch):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question, default: asked.append(question) or False)
    before = list(world.db.iterdump())
    assert "nothing was changed" in run(word, "muons", code=2)
    assert len(asked) == 1
    assert list(world.db.iterdump()) == before


def test_check_says_clean_or_what_is_wrong(world, dataset, run):
    assert run("ledger", "check", "--deep").endswith("is clean\n")
    world.db.execute("UPDATE dataset SET coming = coming + 1")
    assert "is not true to itself" in run("ledger", "check", code=1)
    world.db.execute("UPDATE dataset SET coming = coming - 1")


def test_backup_is_a_ledger_that_checks(world, dataset, run, tmp_path):
    from icp.ledger.db import open_ledger

    copy = tmp_path / "copy.sqlite"
    assert "is a copy" in run("ledger", "backup", str(copy))
    assert "exists already" in run("ledger", "backup", str(copy), code=2)
    other = open_ledger(copy)
    assert check(other) == []
    other.close()


def test_names_of_datasets_are_completed(world, dataset):
    from icp.commands.complete import dataset_names, site_names

    assert dataset_names("mu") == ["muons"]
    assert dataset_names("x") == []
    assert site_names("") == ["local"]
    os.environ["ICP_HOME"] = "/nonexistent"
    assert dataset_names("") == []


def test_the_ledger_is_where_the_configuration_says(world, dataset, run, tmp_path):
    home = Path(os.environ["ICP_HOME"])
    (home / "config.toml").write_text("[run]\npause = 3\n")
    assert run("status", "-q") == "muons\n"
    (home / "config.toml").write_text(f'ledger.path = "{tmp_path}/other.sqlite"\n')
    assert f"there is no ledger at {tmp_path}/other.sqlite" in run("status", code=3)
    for text, part in (('ledger.path = "relative"', "absolute path"), ("ledger = 3", "no such key"), ("[", "not TOML")):
        (home / "config.toml").write_text(text)
        assert part in run("status", code=2)
    (home / "config.toml").unlink()


def test_configuration_is_shown_set_and_explained(run):
    home = os.environ["ICP_HOME"]
    assert f"ledger  {home}/ledger.sqlite" in run("config", "show")
    run("config", "set", "site.local.pilot.cpus", "3")
    assert "site.local.pilot.cpus = 3" in run("config", "show")
    assert "set to 3" in run("config", "explain", "site.local.pilot.cpus")
    assert "cpus of one pilot" in run("config", "explain")
    assert "no key" in run("config", "set", "run.paus", "3", code=2)
    assert "expected a number" in run("config", "set", "run.pause", "often", code=2)
