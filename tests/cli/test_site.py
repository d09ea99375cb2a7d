"""`icp site` on this machine: a host without a batch system, with real processes and no fakes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.ledger.db import open_ledger
from icp.places import places

Icp = Callable[..., Any]
SMALL = """command = "echo $args(job) > out"
outputs = ["out"]
resources = { memory = "10 MB", disk = "1 MB", time = "1 min" }
"""
HERE = ("--here", "--scheduler", "none", "--cpus", "1", "--yes")


def sentence(ran: Any, code: int) -> str:
    assert ran.rc == code, ran
    assert ran.err.startswith("icp: "), ran.err
    assert "Traceback" not in ran.err
    return str(ran.err)


@pytest.fixture
def here(icp: Icp) -> str:
    """A site on this machine, added as a person does."""
    places().config.write_text("# my settings\n[run]\npause_local = 0.2  # quick\n")
    ran = icp("site", "add", "here", *HERE, "--root", os.environ["ICP_HOME"] + "/spools")
    assert ran.rc == 0, ran
    return "here"


def test_add_shows_the_table_and_keeps_the_rest_of_the_file(icp: Icp, here: str) -> None:
    text = places().config.read_text()
    assert text.startswith("# my settings\n[run]\npause_local = 0.2  # quick\n\n[site.here]\n")
    values = json.loads(icp("config", "show", "--json").out)["values"]
    assert values["site.here.scheduler"] == "none"
    assert values["site.here.pilot.cpus"] == 1
    assert "site.here.host" not in values
    assert "is the root of site here already" in sentence(icp("site", "add", "other", *HERE, "--root", values["site.here.root"]), 2)
    said = sentence(icp("site", "add", "here", *HERE), 2)
    assert "icp site remove here" in said
    assert places().config.read_text() == text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("a.b", "--here"), "icp site add a --host a.b"),
        (("x", "--here", "--host", "y"), "expected one of them"),
        (("x", "--here", "--scheduler", "nosuch"), "nosuch"),
        (("x", "--here", "--scheduler", "none", "--partition", "p"), "no batch system"),
        (("x", "--here", "--scheduler", "none", "--attribute", "GPU"), "NAME=VALUE"),
        (("x", "--here", "--scheduler", "none", "--root", "spool"), "absolute path"),
        (("x", "--here", "--scheduler", "none", "--cpus", "100000"), "has "),
    ],
)
def test_wrong_options_write_nothing(icp: Icp, words: tuple[str, ...], expected: str) -> None:
    assert expected in sentence(icp("site", "add", *words), 2)
    assert not places().config.exists()


def test_check_meets_itself_and_leaves_nothing(icp: Icp, here: str) -> None:
    ran = icp("site", "check", here)
    assert ran.rc == 0, ran
    for step in ("python", "submit", "started", "exclusive", "locks", "clock"):
        assert f"  ok {step} " in ran.out
    assert "site here is fit for pilots" in ran.out
    shown = json.loads(icp("site", "show", here, "--json").out)
    assert shown["check"]["state"] == "ok"
    assert shown["check"]["found"]["there"] == {"excl": True, "lock": True}
    assert not (Path(os.environ["ICP_HOME"]) / "spools" / "check").exists() or os.listdir(Path(os.environ["ICP_HOME"]) / "spools" / "check") == []
    assert "passed" in icp("site", "show", here).out


def test_a_setup_that_leaves_no_python_is_told_in_the_jobs_words(icp: Icp, here: str) -> None:
    with places().config.open("a") as file:
        file.write("\n[site.bad]\nroot = '" + os.environ["ICP_HOME"] + "/bad'\nsetup = ['echo no luck today >&2; exit 3']\n")
    said = sentence(icp("site", "check", "bad"), 1)
    assert "no luck today" in said
    shown = json.loads(icp("site", "show", "bad", "--json").out)["check"]
    assert shown["state"] == "failed"


def test_pause_and_resume_are_seen_and_audited(icp: Icp, here: str) -> None:
    assert "never" in icp("site", "list").out
    assert icp("site", "pause", here, "--reason", "maintenance").rc == 0
    assert json.loads(icp("site", "list", "--json").out)[0]["state"] == "paused"
    assert "paused: maintenance" in icp("site", "show", here).out
    assert "paused: maintenance" in icp("status").out
    assert icp("site", "resume", here).rc == 0
    assert "paused" not in icp("status").out
    ledger = open_ledger(places().ledger)
    assert [row[0] for row in ledger.db.execute("SELECT what FROM command ORDER BY id")] == ["site pause here", "site resume here"]
    ledger.close()


def test_drain_then_remove_takes_the_spool_and_the_table_and_nothing_else(icp: Icp, here: str, tmp_path: Path) -> None:
    spools = Path(os.environ["ICP_HOME"]) / "spools"
    (tmp_path / "s.toml").write_text("jobs = 2\n" + SMALL)
    assert icp("submit", "s.toml").rc == 0
    said = sentence(icp("site", "remove", here), 4)
    assert "icp site drain here" in said
    assert "icp run --once" in said
    ran = icp("site", "drain", here, "--wait")
    assert ran.rc == 0, ran
    (spools / "mine.txt").write_text("not icp's")
    dry = icp("site", "remove", here, "--dry-run")
    assert "remove its spool" in dry.out
    assert icp("site", "remove", here).rc == 0
    assert sorted(os.listdir(spools)) == ["mine.txt"]
    assert places().config.read_text() == "# my settings\n[run]\npause_local = 0.2  # quick\n"
    assert "site here" not in icp("status").out
    assert icp("ledger", "check").rc == 0
    assert "there is no site" in sentence(icp("site", "show", here), 3)


def test_a_spool_of_another_ledger_is_not_removed(icp: Icp, here: str) -> None:
    assert icp("site", "pause", here).rc == 0
    ledger = open_ledger(places().ledger)
    spool = Path(os.environ["ICP_HOME"]) / "spools" / ledger.uuid
    ledger.close()
    spool.mkdir(parents=True, mode=0o700)
    (spool / "owner").write_text('{"ledger": "00000000-0000-0000-0000-000000000000"}')
    before = places().config.read_text()
    assert "belongs to the ledger 0000" in sentence(icp("site", "remove", here), 4)
    assert (spool / "owner").exists()
    assert places().config.read_text() == before
    assert "paused by its owner" in icp("site", "show", here).out
    assert icp("site", "remove", here, "--keep-spool").rc == 0
    assert (spool / "owner").exists()


def test_what_was_there_by_force_is_done_elsewhere(icp: Icp, here: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("jobs = 2\n" + SMALL)
    assert icp("submit", "s.toml").rc == 0
    assert icp("site", "remove", here, "--force").rc == 0
    assert icp("ledger", "check").rc == 0
    root = os.environ["ICP_HOME"] + "/second"
    assert icp("site", "add", "second", *HERE, "--root", root).rc == 0
    ran = icp("run", "--until-done")
    assert ran.rc == 0, ran
    assert (tmp_path / "outputs" / "s" / "000001" / "out").read_text() == "1\n"
    assert icp("ledger", "check").rc == 0


def test_names_are_completed(icp: Icp, here: str) -> None:
    ran = icp("site", "show", _ICP_COMPLETE="complete_bash", COMP_WORDS="icp site show h", COMP_CWORD="3")
    assert "here" in ran.out.split()


def test_without_a_table_this_machine_is_no_site_to_remove(icp: Icp) -> None:
    assert "as long as no other one is configured" in sentence(icp("site", "remove", "local"), 2)
    assert "there are local" in sentence(icp("site", "check", "nope"), 3)


def test_a_root_that_is_changed_at_rest_begins_a_spool_of_its_own(icp: Icp, here: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("jobs = 1\n" + SMALL)
    second = os.environ["ICP_HOME"] + "/second"
    assert icp("submit", "s.toml").rc == 0
    assert icp("config", "set", "site.here.root", second).rc == 0
    assert "something of ours is at work" in sentence(icp("run", "--once"), 2)
    assert icp("config", "set", "site.here.root", os.environ["ICP_HOME"] + "/spools").rc == 0
    assert icp("site", "drain", here, "--wait").rc == 0
    assert icp("site", "resume", here).rc == 0
    assert icp("config", "set", "site.here.root", second).rc == 0
    ran = icp("run", "--until-done")
    assert ran.rc == 0, ran
    assert icp("submit", "s.toml", "--name", "again", "--outputs", tmp_path / "again").rc == 0
    ran = icp("run", "--until-done")
    assert ran.rc == 0, ran
    assert (tmp_path / "again" / "000000" / "out").read_text() == "0\n"
    assert icp("ledger", "check").rc == 0
