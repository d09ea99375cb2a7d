"""The commands that look: what they print for people, as JSON and quietly, on ledgers made by hand."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icp import cli, output
from icp.commands.logs import Follower, Spool, Tail, read_log, read_tail
from icp.errors import Unreachable
from icp.ledger import pilots, views, views_jobs, views_results, views_sites, views_work
from icp.model.plan import PilotSpec
from tests.ledger.build import World, task

ROOT = Path(__file__).resolve().parents[2]
DEFS = (
    task("a", outputs=["a.txt"], max_tries=2),
    task("b", inputs=["a:a.txt"], outputs=["b.txt"]),
    task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True),
)
SECRET = "Traceback\nValueError: bad \x1b[31mfile\x07 17"


@pytest.fixture
def muons(world):
    """Job 0 done, 1 with b processing, 2 failed, 3 queued, 4 waiting after an error, 5 suspended, 6-7 unreleased, 8-9 cancelled."""
    dataset = world.submit(10, *DEFS, name="muons", category="ice")
    agent = world.agent()
    world.release(dataset, 6)
    tries = world.deal(dataset, 4)
    world.claim(agent, *tries[:3])
    world.ended(agent, *tries[:2], stats={"muons": 3}, log=[0, 3, 4])
    world.ended(agent, tries[2], result="error", err=SECRET, log=[7, 2, 2])
    first, second = world.deal(dataset, 2, task="b")
    world.claim(agent, first, second)
    world.ended(agent, first)
    (again,) = (one for one in world.deal(dataset, 10, task="a") if one.job == 2)
    world.claim(agent, again)
    world.ended(agent, again, result="error", err=SECRET)
    world.home()
    world.control(dataset).suspend_jobs(5, 5)
    world.control(dataset).cancel_jobs(8, 9)
    return dataset


# -- status -------------------------------------------------------------------------------------------------------


def test_status_says_what_there_is_and_that_no_engine_runs(world, muons, run):
    said = run("status")
    assert "no engine" in said.splitlines()[0]
    row = next(line for line in said.splitlines() if "muons" in line)
    assert row.split()[:4] == ["1", "muons", "processing", "10"]
    assert "site local: pilots 1 running; 1 of 2 slots busy; 2 queued there" in said
    assert max(map(len, said.splitlines())) <= 80


def test_status_names_the_engine_and_the_age_of_its_last_tick(world, muons, run):
    with world.ledger.write():
        world.ledger.set_meta("engine", json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
        world.ledger.set_meta("last_tick", time.time() - 40)
    assert re.match(rf"engine: last tick 4[01] s ago \(pid {os.getpid()} on {re.escape(os.uname().nodename)}\)\n", run("status"))
    with world.ledger.write():
        world.ledger.set_meta("last_tick", time.time() - 4000)
        world.ledger.set_meta("engine", json.dumps({"pid": 1, "host": "elsewhere"}))
    assert run("status").startswith("no engine (last tick 67 min ago, pid 1 on elsewhere, which has ended): icp run")


def test_status_is_calm_where_nothing_is_left_to_be_run(world, run):
    for dataset in (world.submit(1, name="done"), world.submit(1, name="given-up")):
        world.run(dataset) if dataset == 1 else world.control(dataset).cancel()
    with world.ledger.write():
        world.ledger.set_meta("last_tick", time.time() - 4000)
    assert run("status").startswith("no engine runs, and nothing here needs one (last tick 67 min ago)\n")
    assert "icp run" not in run("status")
    world.submit(1, name="new")
    assert run("status").startswith("no engine (last tick 67 min ago): icp run")
    assert run("status", "done").startswith("no engine runs, and nothing here needs one")


def test_an_engine_is_needed_while_something_may_come_home(world, run):
    """Of a suspended dataset too: what runs may end, and counts."""
    dataset = world.submit(1, DEFS[0], name="muons")
    agent = world.agent()
    world.release(dataset)
    world.claim(agent, *world.deal(dataset))
    world.control(dataset).suspend()
    with world.ledger.write():
        world.ledger.set_meta("last_tick", time.time() - 4000)
    assert run("status").startswith("no engine (last tick 67 min ago): icp run")


def test_an_unreachable_site_is_named_with_its_reason_escaped(world, run):
    world.db.execute("UPDATE site SET unreachable = 1790000000, reason = ?", ("no \x1b]0;route\n",))
    said = run("status")
    assert "does not answer since" in said
    assert "no \\x1b]0;route\\n" in said


@pytest.mark.parametrize("word", ["copy", "busy"])
def test_a_site_that_refuses_this_ledger_says_what_goes_on_from_there(world, muons, run, word):
    world.db.execute("UPDATE site SET unreachable = 1790000000, reason = ?", (f"refused: {word}",))
    told = {"copy": "refuses this ledger (copy)", "busy": "does not answer since"}[word]
    mend = {"copy": "icp ledger adopt", "busy": "icp doctor local"}[word]
    assert f"site local: {told}" in run("status")
    for thing in ("local", "muons"):
        said = run("why", thing)
        assert told in said and f"do: {mend}" in said
    assert told in run("site", "show", "local")


@pytest.mark.parametrize("never", [None, "too large for every node: lower site.NAME.pilot.memory"])
def test_why_a_dataset_whose_cards_wait_for_a_pilot_names_what_the_pilot_waits_for(world, run, never):
    dataset = world.submit(2, DEFS[0], name="muons")
    world.release(dataset)
    assert world.deal(dataset)
    assert "2 tasks queued there until a pilot begins, and none is in the queue" in run("why", "muons")
    with world.ledger.write():
        pilots.make_pilot(world.db, world.site_ids["local"], b"12345678", PilotSpec(cpus=2, memory=4 * 10**9, gpus=0), world.now)
        world.db.execute("UPDATE pilot SET state = 2, batch = '7', word = 'pending', said = 'JobHeldUser', never = ?", (never,))
    said = run("why", "muons")
    assert "site local: 2 tasks queued there until a pilot begins: 1 pilot in the queue (JobHeldUser)" in said
    assert ("do: icp why 3132333435363738" in said) == bool(never)
    assert ("waits for what never comes: too large for every node: lower site.local.pilot.memory" in said) == bool(never)


def test_status_filters_and_prints_names_only(world, muons, run):
    assert run("status", "--site", "local", "-q") == "muons\n"
    world.run(world.submit(1, name="done"))
    assert run("status", "--quiet") == "muons\ndone\n"
    assert run("status", "--state", "complete", "-q") == "done\n"
    assert run("status", "--category", "ice", "-q") == "muons\n"
    assert run("status", "--site", "local", "-q") == ""
    assert run("status", "don", "-q") == "done\n"
    assert "expected one of" in run("status", "--state", "bad", code=2)


def test_no_ledger_and_no_dataset_are_said_in_a_sentence(run):
    path = Path(os.environ["ICP_HOME"]) / "ledger.sqlite"
    World(path.parent, path=path).close()
    assert "no dataset yet" in run("status")
    path.unlink()
    assert "there is no ledger" in run("status", code=3)


def test_status_is_light(world, muons):
    """It loads neither what runs things nor what draws, and costs little more than Typer alone."""
    code = "import sys\nfrom icp.cli import main\nmain(['status'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"parsl", "httpx", "asyncio", "rich", "filelock", "pydantic", "icp.engine", "icp.planner", "icp.dsl", "icp.config"}


# -- jobs, tasks, show --------------------------------------------------------------------------------------------


def test_jobs_and_tasks_are_listed_with_filters(world, muons, run):
    said = run("jobs", "muons")
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [
        ["0", "ok"], ["1", "processing"], ["2", "failed"], ["3", "queued"], ["4", "queued"], ["5", "suspended"], ["6-7", "unreleased"], ["8-9", "cancelled"],
    ]  # fmt: skip
    assert run("jobs", "muons", "--state", "failed", "-q") == "2\n"
    assert run("jobs", "muons", "--limit", "2", "-q") == "0\n1\n"
    assert run("tasks", "muons", "--state", "failed", "-q") == "2 a\n"
    assert run("tasks", "muons", "--job", "1", "-q") == "1 a\n1 b\n"
    assert run("tasks", "muons", "--jobs", "0-1", "--task", "b", "-q") == "0 b\n1 b\n"
    assert "there may be more" in run("tasks", "muons", "--limit", "3")


def test_show_tells_the_story_of_dataset_job_and_task(world, muons, run):
    said = run("show", "muons")
    for part in ("sum (final)", "jobs 8-9 are cancelled", "2 errors like this: payload exit 1 in a", "root: cancel" if os.getuid() == 0 else "cancel", "muons"):
        assert part in said
    said = run("show", "muons", "--job", "2")
    assert "a failed, 2 tries" in said
    assert "try 2 error at local on node-1, exit 1" in said
    assert "ValueError: bad \\x1b[31mfile\\x07 17" in said
    assert "\x1b" not in said
    said = run("show", "muons", "--job", "0", "--task", "b")
    assert "try 1 ok" in said
    assert f"output {world.folder}/outputs/muons/000000/b.txt" in said
    assert "it is no row yet" in run("show", "muons", "--job", "7")
    assert run("show", "muons", "--steering") == "# steering of muons\njobs = 10\n"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("show", "nothing"), 3, "there is no dataset 'nothing'"),
        (("show", "muons", "--task", "bb"), 3, "there is no task 'bb'"),
        (("show", "muons", "--job", "10"), 3, "jobs 0 to 9"),
        (("show", "muons", "--job", "x"), 2, "expected a job's number"),
        (("show", "muons", "--job", "final"), 3, "no final task"),
        (("jobs", "muons", "--jobs", "5-3"), 2, "ends before it begins"),
        (("jobs", "muons", "--jobs", "a-b"), 2, "expected a job such as 17"),
        (("tasks", "muons", "--state", "failled"), 2, "failed"),
        (("logs", "muons"), 2, "--job"),
        (("logs", "muons", "--job", "0"), 2, "has 2 tasks: a, b"),
        (("logs", "muons", "--job", "7"), 3, "ever ran"),
        (("logs", "muons", "--job", "2", "--try", "9"), 3, "no try 9"),
        (("stats", "muons", "--by", "jobs"), 2, "--by"),
        (("stats", "muons", "--stat", "muon"), 3, "did you mean muons?"),
        (("stats", "muons", "--by", "site", "--plot"), 2, "--plot"),
        (("stats", "muons", "--csv", "--json"), 2, "one of them"),
    ],
)
def test_bad_input_is_one_sentence_with_its_exit_code(world, muons, run, words, code, part):
    said = run(*words, code=code)
    assert part in said
    assert "Traceback" not in said


# -- why ----------------------------------------------------------------------------------------------------------


def why(run, *words):
    return json.loads(run("why", "muons", "--json", *words))


@pytest.mark.parametrize(
    ("words", "state", "sentence", "mend"),
    [
        (("--job", "0", "--task", "b"), "ok", "it is done, by try 1 at site local", "icp outputs muons --job 0"),
        (("--job", "1", "--task", "b"), "processing", "an agent at site local on node-1 claimed it", ""),
        (("--job", "2", "--task", "a"), "failed", "it failed as often as it may (2 times payload)", "icp retry muons --job 2 --task a"),
        (("--job", "2", "--task", "b"), "idle", "it waits for a (failed) of the same job", "icp retry muons --job 2"),
        (("--job", "3", "--task", "a"), "queued", "its card is at site local since", ""),
        (("--job", "5", "--task", "a"), "suspended", "it was suspended by", "icp resume muons --job 5 --task a"),
        (("--job", "6"), "unreleased", "it is not released yet", "icp set muons priority 10 --job 6"),
        (("--job", "9"), "cancelled", "it was cancelled before it began by", "icp reset muons --job 9"),
        (("--task", "sum", "--job", "0"), "unreleased", "it waits for", "icp why muons"),
    ],
)
def test_why_has_a_sentence_evidence_and_a_command_for_every_state(world, muons, run, words, state, sentence, mend):
    first = why(run, *words)[0]
    assert first["state"] == state
    assert sentence in first["sentence"]
    assert first["mend"] == mend


def test_why_a_task_waits_is_what_the_planner_says(world, run):
    dataset = world.submit(2, *DEFS, name="muons")
    world.release(dataset)
    (first, *_) = why(run, "--job", "0", "--task", "a")
    assert first["sentence"] == "it waits for a place"
    assert first["evidence"] == ["site local has no pilot yet: the next tick submits one, and sends some of it there"]
    agent = world.agent()
    (one,) = world.deal(dataset, 1)
    world.claim(agent, one)
    world.ended(agent, one, result="error", err="boom")
    (first, *_) = why(run, "--job", "0", "--task", "a")
    assert any("payload, exit 1" in text for text in first["evidence"])
    world.db.execute("UPDATE task SET not_before = ? WHERE job = 0", (time.time() + 300,))
    (first, *_) = why(run, "--job", "0", "--task", "a")
    assert re.search(r"goes again in 5 min|goes again in 299 s", first["sentence"])
    said = [one["sentence"] for one in why(run) if one["state"] == "waiting"]
    assert said[0].startswith("1 task failed before, and the first goes again in")
    assert said[1].startswith("1 task waits for a place")


def test_why_of_a_dataset_names_what_holds_it_up(world, muons, run):
    answers = why(run)
    said = {(one["about"], one["state"]): one for one in answers}
    assert said["engine", "absent"]["mend"] == "icp run"
    assert said["task a", "failed"]["mend"] == "icp retry muons --task a"
    assert said["jobs 8-9", "cancelled"]["mend"] == "icp reset muons --job 8-9"
    assert said["dataset muons", "suspended"]["mend"] == "icp resume muons"
    assert "final task sum" in {one["about"] for one in answers}
    world.db.execute("UPDATE site SET unreachable = 1, reason = 'no route'")
    assert {one["about"]: one for one in why(run)}["site local"]["evidence"] == ["no route"]


def test_why_explains_stop_loss(world, run):
    dataset = world.submit(4, task("a", max_tries=1), name="muons", stop_loss=2)
    agent = world.agent()
    world.release(dataset)
    for one in world.deal(dataset, 2):
        world.claim(agent, one)
        world.ended(agent, one, result="error", err="no such file")
    (first, *rest) = why(run)
    assert first["sentence"].startswith("stop-loss: the last 2 errors of task a are the same")
    assert first["mend"] == "icp resume muons"
    assert any("| no such file" in one["evidence"] for one in rest)


# -- stats, outputs -----------------------------------------------------------------------------------------------


def test_stats_in_three_forms(world, muons, run):
    assert re.search(r"a +muons +2 +6 +3 +0 +3 +3", run("stats", "muons"))
    rows = run("stats", "muons", "--csv").splitlines()
    assert rows[0] == "task,name,n,sum,mean,deviation,min,max,by"
    assert rows[1] == "a,muons,2,6.0,3.0,0.0,3.0,3.0,a"
    assert {row["name"] for row in json.loads(run("stats", "muons", "--by", "dataset", "--json"))} == {"muons", "cpu", "wall", "memory", "output"}


@pytest.mark.parametrize(("by", "groups"), [("site", {"local"}), ("host", {"node-1"}), ("job", {"0", "1"}), ("task", {"a", "b"}), ("dataset", {None})])
def test_stats_by_whatever_one_asks_for_count_each_accepted_attempt_once(world, muons, run, by, groups):
    rows = json.loads(run("stats", "muons", "--by", by, "--json"))
    assert {row["by"] for row in rows} == groups
    assert sum(row["n"] for row in rows if row["name"] == "wall") == 3
    assert sum(row["sum"] for row in rows if row["name"] == "muons") == 6
    assert sum(row["sum"] for row in rows if row["name"] == "output") == len("a.txt of a in job 0\n") * 3


def test_a_histogram_has_every_value_once(world, run):
    dataset = world.submit(30)
    agent = world.agent()
    world.release(dataset)
    for value, one in enumerate(world.deal(dataset)):
        world.claim(agent, one)
        world.ended(agent, one, stats={"x": value})
    said = run("stats", "d", "--stat", "x", "--plot").splitlines()
    assert said[0] == "x of a: 30 values, mean 14.5, deviation 8.803"
    counts = [int(re.match(r" *[\d.]+ to +[\d.]+ +(\d+) ", line)[1]) for line in said[1:]]
    assert len(counts) == 20
    assert sum(counts) == 30
    assert set(counts) == {1, 2}


def test_few_whole_numbers_have_a_line_each(world, run):
    dataset = world.submit(6)
    agent = world.agent()
    world.release(dataset)
    for value, one in zip((2, 2, 3, 5, 5, 5), world.deal(dataset), strict=True):
        world.claim(agent, one)
        world.ended(agent, one, stats={"hits": value})
    lines = [line.split()[:2] for line in run("stats", "d", "--stat", "hits", "--plot").splitlines()[1:]]
    assert lines == [["2", "2"], ["3", "1"], ["4", "0"], ["5", "3"]]


def test_outputs_lists_paths_that_exist(world, muons, run):
    (path,) = run("outputs", "muons", "--quiet").splitlines()
    assert Path(path).read_text() == "b.txt of b in job 0\n"
    assert "every kept file that was made is home" in run("outputs", "muons", "--missing")
    assert len(json.loads(run("outputs", "muons", "--every", "--json"))) == 3


# -- logs ---------------------------------------------------------------------------------------------------------


def pack(world, card, data):
    spool = world.folder / "spool"
    with world.ledger.write():
        world.ledger.set_meta("root:local", str(spool))
    folder = spool / world.ledger.uuid / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / card).write_bytes(data)
    return folder


def test_logs_come_from_the_pack_byte_for_byte(world, muons, capfdbinary):
    failed = [one for one in world.tries.values() if one.job == 2]
    pack(world, failed[0].card, b"1234567AB\x1b\xff--")
    assert cli.main(["logs", "muons", "--job", "2", "--try", "1"]) == 0
    assert capfdbinary.readouterr().out == b"AB\x1b\xff"
    assert cli.main(["logs", "muons", "--job", "2", "--try", "1", "--stderr"]) == 0
    assert capfdbinary.readouterr().out == b"\x1b\xff"
    assert json.loads(run_json(capfdbinary, "logs", "muons", "--job", "2", "--try", "1", "--json"))["stdout"] == "AB"


def run_json(capture, *words):
    assert cli.main(list(words)) == 0
    return capture.readouterr().out


def test_a_log_that_is_gone_or_short_is_unknown(world, tmp_path):
    with pytest.raises(Unreachable, match="cannot be read"):
        read_log(Spool(tmp_path), "c", 0, 1, 1)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "c").write_bytes(b"12")
    with pytest.raises(Unreachable, match="shorter"):
        read_log(Spool(tmp_path), "c", 0, 2, 1)


def test_a_tail_that_grows_is_printed_once(tmp_path):
    (tmp_path / "logs").mkdir()

    def write(out_begin, out, err):
        head = json.dumps({"out": [out_begin, len(out)], "err": [0, len(err)]}).encode()
        (tmp_path / "logs" / "a.tail").write_bytes(head + b"\n" + out + err)

    follower = Follower()
    write(0, b"one\n", b"")
    assert follower.fresh(read_tail(Spool(tmp_path), "a")) == (b"one\n", b"")
    write(0, b"one\ntwo\n", b"warning\n")
    assert follower.fresh(read_tail(Spool(tmp_path), "a")) == (b"two\n", b"warning\n")
    write(2, b"e\ntwo\nthree", b"warning\n")
    assert follower.fresh(read_tail(Spool(tmp_path), "a")) == (b"three", b"")
    assert follower.fresh(Tail(100, b"later", 0, b"warning\n")) == (b"later", b"")
    (tmp_path / "logs" / "a.tail").write_bytes(b"torn")
    assert read_tail(Spool(tmp_path), "a") is None


def test_following_ends_with_the_attempt_and_prints_what_was_left_out(world, run, capsys, monkeypatch):
    dataset = world.submit(1, task("a"), name="d")
    agent = world.agent()
    world.release(dataset)
    (one,) = world.deal(dataset)
    world.claim(agent, one)
    world.running(agent, one)
    logs = pack(world, one.card, b"onetwo!")
    (logs / f"{one.key}.tail").write_bytes(b'{"err":[0,0],"out":[0,3]}\none')

    def passes(seconds):
        world.ended(agent, one, log=[0, 6, 1])

    monkeypatch.setattr("icp.commands.logs.time.sleep", passes)
    assert cli.main(["logs", "d", "--job", "0", "-f"]) == 0
    said = capsys.readouterr()
    assert said.out == "onetwo!"
    assert "ended: ok" in said.err


# -- printing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "a\rb", "\u202eevil", "\x00", "\udc80"])
def test_control_characters_never_reach_a_terminal(text):
    for shown in (output.clean(text), output.clean_lines(text)):
        assert shown.isprintable()


def test_colours_only_on_a_terminal_that_wants_them(world, muons, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(["status"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "\x1b[31m" in said
    assert all(len(output.strip(line)) <= 100 for line in said.splitlines())


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (12345, "12,345"), (999_999, "999,999"), (20_000_001, "20.0M"), (23e9, "23.0G")])
def test_numbers_are_short(n, text):
    assert output.number(n) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (2.25, "2.2 s"), (40, "40 s"), (119, "119 s"), (121, "2 min"), (7200, "2 h"), (86400 * 3, "3 d")])
def test_durations_have_one_unit(seconds, text):
    assert output.duration(seconds) == text


@pytest.mark.parametrize("cells", [1, 5, 20])
def test_a_bar_has_its_width_whatever_is_in_it(cells):
    for parts in ([], [(1, "a", "")], [(0, "a", ""), (10, "b", "")], [(1, "a", ""), (1, "b", ""), (1, "c", "")], [(99, "a", ""), (1, "b", "")]):
        assert len(output.bar(parts, 100, cells)) == cells


# -- JSON is a promise --------------------------------------------------------------------------------------------

SHAPES = {
    "status": views.DatasetView, "sites": views.SiteView, "jobs": views_jobs.JobView, "tasks": views_jobs.TaskView, "attempts": views_jobs.AttemptView,
    "definitions": views_jobs.DefinitionView, "stats": views_results.StatView, "outputs": views_results.OutputView, "errors": views.ErrorView,
    "site": views_sites.SiteStory, "progress": views_work.ProgressView, "work": views_work.WorkView, "course": views_work.CourseView,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_key_of_a_list_is_documented(name):
    text = (ROOT / "docs" / "json.md").read_text()
    section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == list(SHAPES[name].__dataclass_fields__)
