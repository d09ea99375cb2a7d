"""What a person changes of a dataset at work: limits, more jobs, its name; and what is freed. Each on ledgers made by hand."""

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from icp.ledger import upkeep
from icp.ledger.check import check
from icp.ledger.snapshot import read_snapshot
from icp.ledger.views import one_dataset
from icp.states import File, Task
from tests.ledger.build import World, task

DEFS = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]), task("sum", inputs=["b:b.txt[*]"], outputs=["s.txt"], final=True))


@pytest.fixture
def world():
    home = Path(os.environ["ICP_HOME"])
    one = World(home, path=home / "ledger.sqlite", site_names=("local", "nsa"))
    yield one
    assert check(one.ledger, deep=True) == []
    one.close()


def view_of(world, dataset):
    snapshot = read_snapshot(world.db, world.definitions, [], world.now)
    return next(one for one in snapshot.datasets if one.id == dataset)


def test_limits_are_set_shown_to_the_planner_and_taken_back(world, run):
    number = world.submit(10, *DEFS, name="muons")
    home = Path(os.environ["ICP_HOME"])
    (home / "config.toml").write_text('[site.nsa]\nhost = "nsa"\nscheduler = "slurm"\nroot = "/home/me/.icp/nsa"\n')
    assert "max-running 3" in run("set", "muons", "max-running", "3")
    assert "sites nsa" in run("set", "muons", "sites", "nsa")
    assert (view_of(world, number).max_running, view_of(world, number).sites) == (3, frozenset(("nsa",)))
    shown = run("show", "muons")
    assert "3 tasks at the most" in shown and "sites      nsa" in shown
    run("set", "muons", "max-running", "none")
    run("set", "muons", "sites", "any")
    assert "at the most" not in run("show", "muons")
    assert (view_of(world, number).max_running, view_of(world, number).sites) == (None, None)
    run("set", "muons", "stop-loss", "5")
    run("set", "muons", "max-tries", "7")
    run("set", "muons", "category", "test")
    assert world.db.execute("SELECT stop_loss, category FROM dataset").fetchall() == [(5, "test")]
    assert {row[0] for row in world.db.execute("SELECT tries FROM task_def")} == {7}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("max-running", "0"), 2), (("max-running", "many"), 2), (("sites", "nowhere"), 3), (("sites", ","), 2), (("max-tries", "0"), 2),
        (("category", "a\nb"), 2), (("max-runing", "3"), 2), (("max-running", "3", "--jobs", "0-1"), 2), (("max-running", "3", "--dry-run"), 0),
        (("priority", "3", "--dry-run"), 0),
    ],
)  # fmt: skip
def test_what_is_wrong_or_dry_changes_nothing(world, run, words, code):
    world.submit(10, *DEFS, name="muons")
    before = list(world.db.iterdump())
    run("set", "muons", *words, code=code)
    assert list(world.db.iterdump()) == before


def test_cards_beyond_a_limit_and_at_other_sites_are_called_back_and_those_that_run_are_not(world, run):
    number = world.submit(6, *DEFS, name="muons")
    agent = world.agent()
    world.release(number)
    tries = world.deal(number)
    world.claim(agent, tries[0])
    run("set", "muons", "max-running", "4")
    stopped = {row[0].hex() for row in world.db.execute("SELECT key FROM attempt WHERE stop = 1")}
    assert len(stopped) == 2 and tries[0].key not in stopped
    (Path(os.environ["ICP_HOME"]) / "config.toml").write_text('[site.nsa]\nhost = "nsa"\nscheduler = "slurm"\nroot = "/home/me/.icp/nsa"\n')
    run("set", "muons", "sites", "nsa")
    assert {row[0].hex() for row in world.db.execute("SELECT key FROM attempt WHERE stop = 1")} == {one.key for one in tries[1:]}


def test_why_says_that_the_dataset_may_run_no_more(world, run):
    number = world.submit(6, *DEFS, name="muons")
    world.release(number, 3)
    world.deal(number, 1)
    run("set", "muons", "max-running", "1")
    said = run("why", "muons")
    assert "the dataset may run 1 at once, and 1 is at sites" in said and "icp set muons max-running 2" in said
    assert "may run 1 at once" in run("why", "muons", "--job", "1") and "may run 1 at once" in run("why", "muons", "--job", "5")
    run("set", "muons", "max-running", "none")
    assert "at once" not in run("why", "muons")


def complete(world, number):
    agent = world.run(number)
    with world.ledger.write():
        upkeep.complete(world.db, world.definitions, world.now)
    assert one_dataset(world.db, number).state == "complete"
    return agent


def test_a_complete_dataset_is_extended_and_its_final_task_done_anew_over_all(world, run):
    number = world.submit(3, *DEFS, name="muons")
    complete(world, number)
    first = world.db.execute("SELECT accepted FROM task WHERE job < 0").fetchone()[0]
    before = list(world.db.iterdump())
    assert "final task sum will be done anew; nothing was changed" in run("extend", "muons", "--jobs", "2", "--dry-run")
    assert list(world.db.iterdump()) == before
    assert "5 jobs, 3-4 are new" in run("extend", "muons", "--jobs", "2", "--yes")
    view = one_dataset(world.db, number)
    assert (view.state, view.jobs, view.ok) == ("processing", 5, 6)
    assert check(world.ledger) == []
    world.definitions.forget()
    complete(world, number)
    view = one_dataset(world.db, number)
    assert (view.ok, view.tasks) == (11, 11)
    assert world.db.execute("SELECT accepted FROM task WHERE job < 0").fetchone()[0] != first


def test_an_unfinished_dataset_is_extended_and_goes_on(world, run):
    number = world.submit(4, *DEFS, name="muons")
    world.release(number, 2)
    run("cancel", "muons", "--jobs", "3", "--yes")
    run("extend", "muons", "--jobs", "3")
    assert check(world.ledger) == []
    complete(world, number)
    assert (one_dataset(world.db, number).ok, one_dataset(world.db, number).cancelled) == (6 * 2 + 1, 2)


def test_groups_that_are_done_wait_for_jobs_that_join_them(world, run):
    by_group = task("sum", inputs=["a:a.txt[*]"], outputs=["s.txt"], final=True, group_by="$eval($args(job) // 2)")
    number = world.submit(3, task("a", outputs=["a.txt"]), by_group, name="muons")  # groups 0: 0, 1; 1: 2
    complete(world, number)
    run("extend", "muons", "--jobs", "2", "--yes")  # 3 joins group 1, 4 is group 2
    graph = world.definitions.graph(number)
    final = graph.finals[0].id
    from icp.ledger import release

    with world.ledger.write():
        grown = release.add_groups(world.db, graph, ((job, {final: str(job // 2)}) for job in (3, 4)))
        assert grown == [(final, 1)]
        world.control(number).groups_grew(3, 4, grown)
    assert check(world.ledger) == []
    assert [world.db.execute("SELECT state FROM task WHERE job = ?", (-1 - group,)).fetchone()[0] for group in (0, 1)] == [Task.OK, Task.IDLE]
    complete(world, number)
    assert one_dataset(world.db, number).ok == 5 + 3


def test_what_cannot_be_extended_is_not(world, run):
    world.submit(999_999, task("a", outputs=["a.txt"]), name="big")
    assert "numbered for at most 1,000,000 jobs" in run("extend", "big", "--jobs", "2", code=4)
    run("extend", "big", "--jobs", "1")
    world.submit(2, task("a", outputs=["a.txt"]), name="small")
    run("cancel", "small", "--yes")
    assert "is cancelled" in run("extend", "small", "--jobs", "1", code=4)


def test_a_dataset_is_renamed_and_its_name_is_free(world, run):
    world.submit(2, *DEFS, name="muons")
    world.submit(2, *DEFS, name="other")
    assert "is new.name from now on" in run("rename", "muons", "new.name")
    assert run("status", "-q").split() == ["new.name", "other"]
    assert "already" in run("rename", "other", "new.name", code=2)
    assert "in full" in run("rename", "oth", "x", code=2)
    run("rename", "other", "a b", code=2)
    run("rename", "other", "muons")


# -- gc -----------------------------------------------------------------------------------------------------------


def homes(world, number):
    """Put the bytes of kept files where the ledger says that they are."""
    from icp.ledger.definitions import Definitions
    from icp.ledger.views_results import outputs

    found = []
    keys = dict(world.db.execute("SELECT sha256, lower(hex(sha256)) FROM file").fetchall())
    contents = {hashlib.sha256(data).hexdigest(): data for data in world.bytes.values()}
    assert keys
    for one in outputs(world.db, Definitions(world.db).graph(number), first=-10, last=100):
        path = Path(one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[one.sha256])
        found.append(path)
    return found


def test_gc_says_what_it_would_free_and_takes_nothing_that_counts(world, run):
    state = Path(os.environ["ICP_HOME"])
    live, old = world.submit(2, *DEFS, name="live"), world.submit(2, *DEFS, name="old")
    complete(world, live)
    complete(world, old)
    kept, left = homes(world, live), homes(world, old)
    wanted = world.db.execute("SELECT id FROM file WHERE kept = 0 AND state NOT IN (4, 5)").fetchall()
    dropped = world.db.execute("SELECT id FROM file WHERE kept = 0 AND state IN (4, 5)").fetchall()
    (state / "relay").mkdir()
    (state / "incoming").mkdir()
    for (one,) in (*wanted, *dropped):
        (state / "relay" / f"{'0' * 64}.{one}").write_bytes(b"12345")
    (state / "incoming" / f"{'0' * 16}.999999").write_bytes(b"1234567")
    (state / "incoming" / "notes.txt").write_bytes(b"mine")
    blob = hashlib.sha256(b"pack").digest()
    world.db.execute("INSERT INTO blob VALUES (?, 4, ?)", (blob, b"pack"))
    world.db.execute("UPDATE dataset SET pack = ? WHERE id = ?", (blob, old))
    assert "in the ledger" not in run("gc", "--dry-run")
    run("delete", "old", "--yes")
    before = list(world.db.iterdump()), sorted(state.rglob("*"))
    said = run("gc", "--dry-run")
    assert "1 file, 4 B, in the ledger, shipped with deleted datasets" in said and "they stay, without --outputs" in said
    assert (list(world.db.iterdump()), sorted(state.rglob("*"))) == before
    run("gc", "--yes")
    assert all(path.exists() for path in (*kept, *left))
    there = {path.name for path in (state / "relay").iterdir()}
    assert there == {f"{'0' * 64}.{one}" for (one,) in wanted}
    assert [path.name for path in (state / "incoming").iterdir()] == ["notes.txt"]
    assert world.db.execute("SELECT count(*) FROM blob").fetchone() == (0,)
    left[0].write_bytes(b"changed by hand")
    assert "changed since" in run("gc", "--outputs", "--yes")
    assert left[0].exists() and not any(path.exists() for path in left[1:]) and all(path.exists() for path in kept)
    assert json.loads(run("gc", "--json", "--outputs", "--yes"))["freed"] == 0
    assert world.db.execute("SELECT count(*) FROM file WHERE kept = 1 AND state = ?", (int(File.DROPPED),)).fetchone() == (len(left) - 1,)
    for path in (state / "relay").iterdir():
        path.unlink()


def test_no_more_run_at_once_than_may(icp, tmp_path):
    """With an engine and agents: of six jobs that note when they begin and end, no two are at work at the same moment."""
    command = "date +%s.%N > span; sleep 0.2; date +%s.%N >> span"
    (tmp_path / "one.toml").write_text(f'name = "one"\njobs = 6\ncommand = "{command}"\noutputs = ["span"]\n')
    (Path(os.environ["ICP_HOME"]) / "config.toml").write_text("[site.local.pilot]\ncpus = 4\n")
    prepared = icp("submit", "one.toml", "--plan")
    assert prepared.rc == 0
    from icp.engine import submission
    from icp.ledger.db import open_ledger

    ledger = open_ledger(Path(os.environ["ICP_HOME"]) / "ledger.sqlite", create=True)
    submission.submit(ledger, submission.prepare(tmp_path / "one.toml"), 1.0)
    ledger.close()
    assert icp("set", "one", "max-running", "1").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    spans = sorted(tuple(map(float, path.read_text().split())) for path in (tmp_path / "outputs/one").rglob("span"))
    assert len(spans) == 6
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_gc_takes_what_was_fetched_and_nobody_names_any_more(world, run):
    state, sha = Path(os.environ["ICP_HOME"]), {name: hashlib.sha256(name.encode()).hexdigest() for name in ("site", "live", "old", "new", "module", "other")}
    (state / "config.toml").write_text(f'[site.s]\npythons = ["x86_64 https://x/p {sha["site"]}"]\n')
    world.submit(1, *DEFS, name="live")
    definition = json.loads(world.db.execute("SELECT definition FROM dataset").fetchone()[0])
    definition["software"] = {"x": {"cvmfs": [], "shell": "", "setup": "", "env": {}, "tarballs": [["any", "u", sha["live"]]], "container": ""}}
    origin = {"url": "https://x/m.py", "rev": "", "commit": "", "sha256": sha["module"], "folder": ".icp-modules/m"}
    definition["tasks"][0]["trays"][0]["modules"][0] |= {"python": ".icp-modules/m/m.py", "origin": origin}
    world.db.execute("UPDATE dataset SET definition = ?", (json.dumps(definition),))
    stock, modules = state / "software", state / "cache" / "modules"
    stock.mkdir()
    for name in ("site", "live", "old", "new"):
        (stock / sha[name]).write_bytes(b"12345")
    (stock / f".{sha['live']}.0a1b2c3d.part").write_bytes(b"12")
    (stock / "notes").write_bytes(b"mine")
    for name in (sha["module"][:16], sha["other"][:16], "1" * 40):
        (modules / name).mkdir(parents=True)
        (modules / name / "m.py").write_bytes(b"123")
    for path in [*stock.iterdir(), *modules.iterdir()]:
        if path.name != sha["new"]:
            os.utime(path, (1, 1))
    assert json.loads(run("gc", "--dry-run", "--json"))["fetched"] == {"files": 4, "bytes": 13}
    assert "4 files, 13 B, fetched, which no dataset and no site names any more" in run("gc", "--yes")
    assert {path.name for path in stock.iterdir()} == {sha["site"], sha["live"], sha["new"], "notes"}
    assert [path.name for path in modules.iterdir()] == [sha["module"][:16]]
    assert "nothing is to be freed" in run("gc", "--yes")
