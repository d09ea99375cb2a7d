"""What a pilot does with cards: real processes from the zipapp, through a real spool."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pilot_site import Site, attempt, shell, until

from icp.pilot import framing, node

pytestmark = pytest.mark.long


def source(one: dict[str, Any], name: str, sha256: str | None = None) -> dict[str, Any]:
    return {"name": name, "from": ["store", one["a"]], "sha256": sha256}


def test_from_card_to_facts_and_store(site: Site) -> None:
    first = shell(
        "echo out; echo err >&2; printf data > 'a b.txt'; echo 'n += 2' > $ICP_STATS; echo 'n += 3' >> $ICP_STATS",
        out=["a b.txt"],
    )
    second = shell(
        "cat 'a b.txt'; touch \"$ICP_TMP/x\"; test $ICP_JOB = 17",
        after=[first["a"]],
        **{"in": [source(first, "a b.txt")]},
    )
    failing = attempt("sh", "-c", "echo why >&2; exit 3")
    behind = attempt("true", after=[failing["a"]])
    card = site.card(first, second, failing, behind)
    name = json.loads(framing.FrameParser().feed(card)[0].body)["card"]
    pilot = site.start(card)
    site.finish(pilot)
    assert site.said(pilot) == ""
    digest = hashlib.sha256(b"data").hexdigest()
    fact = site.result(first)
    assert (fact["r"], fact["exit"], fact["out"], fact["stats"]) == ("ok", 0, [[0, "a b.txt", 4, digest]], {"n": 5})
    assert site.stored(first, "a b.txt") == b"data"
    assert (site.root / "store" / first["a"] / "a b.txt").stat().st_mode & 0o777 == 0o444
    assert site.log(first, name) == (b"out\n", b"err\n")
    assert site.result(second)["r"] == "ok"
    assert site.log(second, name) == (b"data", b"")
    fact = site.result(failing)
    assert (fact["r"], fact["kind"], fact["exit"], fact["err"]) == ("error", "payload", 3, "why\n")
    assert site.result(behind)["r"] == "returned"
    assert [one["card"] for one in site.of("claimed")] == [name]
    assert site.of("started")[0]["cpus"] == 2
    assert [one["why"] for one in site.of("stopped")] == ["idle"]
    assert not list(Path(site.where.agents).glob("*/claimed/*"))
    reply = site.tick(
        want=[[first["a"], 0, "a b.txt", 1, 2], [first["a"], 0, "../owner", 0, 9], [first["a"], 0, "none", 0, 9]]
    )
    assert [one.body for one in reply.all("file")] == [b"at"]
    assert len(reply.all("missing")) == 2
    site.assert_clean()


def test_arguments_arrive_byte_for_byte(site: Site) -> None:
    words = ["a b", "it's", 'say "x"', "new\nline", "-n", "--", "$(touch /tmp/never)", "`x`", ";", "ü\u20ac", "", "*"]
    one = attempt(
        sys.executable, "-c", "import sys, json; json.dump(sys.argv[1:], open('words', 'w'))", *words, out=["words"]
    )
    two = attempt("printf", "%s", ["<", {"node": "tmp"}, ">"])
    card = site.card(one, two)
    pilot = site.start(card)
    site.finish(pilot)
    assert json.loads(site.stored(one, "words")) == words
    out, _ = site.log(two, json.loads(framing.FrameParser().feed(card)[0].body)["card"])
    assert out.startswith(b"<") and out.endswith(b"/tmp>")


def test_outputs_that_are_missing_optional_or_many(here: Site) -> None:
    missing = attempt("true", out=["x.root"])
    optional = attempt("true", out=[{"name": "x.root", "optional": True}])
    many = shell("mkdir sub; touch sub/1.i3 sub/2.i3", out=[{"name": "sub/*.i3", "optional": False, "glob": True}])
    none = attempt("true", out=["*.i3"])
    folder = attempt("mkdir", "x", out=["x"])
    here.finish(here.start(here.card(missing, optional, many, none, folder)))
    fact = here.result(missing)
    assert (fact["r"], fact["kind"], fact["exit"]) == ("error", "payload", 0)
    assert "x.root missing" in fact["err"]
    assert here.result(optional)["r"] == "ok"
    assert [one[1] for one in here.result(many)["out"]] == ["sub/1.i3", "sub/2.i3"]
    assert here.result(none)["kind"] == "payload"
    assert "not a regular file" in here.result(folder)["err"]


def test_inputs_are_checked_and_listed(here: Site) -> None:
    data = b"geometry"
    sha256 = hashlib.sha256(data).hexdigest()
    cache = {"name": "000017/geo", "from": ["cache", sha256], "sha256": sha256}
    good = shell("cat inputs.list 000017/geo", list=True, **{"in": [cache]})
    wrong = attempt("true", **{"in": [{**cache, "sha256": "0" * 64}]})
    absent = attempt("true", **{"in": [{"name": "x", "from": ["store", "0123456789abcdef"], "sha256": None}]})
    here.finish(here.start(framing.frame("blob", {"sha256": sha256}, data), here.card(good, wrong, absent)))
    assert here.result(good)["log"][1] == len(b"000017/geo\ngeometry")
    assert here.result(wrong)["kind"] == "stage"
    assert "expected 0000" in here.result(wrong)["err"]
    assert here.result(absent)["kind"] == "stage"


def test_shipped_files_are_unpacked_once_and_cannot_leave_their_folder(here: Site) -> None:
    def pack(*names: str) -> tuple[str, bytes]:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = 3, 0o755
                archive.addfile(entry, io.BytesIO(b"#!x"))
        return hashlib.sha256(target.getvalue()).hexdigest(), target.getvalue()

    good, bad = pack("sim.py", "lib/deep.py"), pack("../escaped")
    one = shell("test -x sim.py; cat lib/deep.py; ! touch lib/new || test $(id -u) = 0", files=[good[0]])
    again = shell("readlink sim.py", files=[good[0]])
    evil = attempt("true", files=[bad[0]])
    blobs = [framing.frame("blob", {"sha256": digest}, data) for digest, data in (good, bad)]
    here.finish(here.start(*blobs, here.card(one, again, evil)))
    assert here.result(one)["r"] == here.result(again)["r"] == "ok"
    assert here.result(evil)["kind"] == "stage"
    assert not list(here.base.rglob("escaped"))
    here.assert_clean()


def test_packs_by_what_a_need_asks(here: Site) -> None:
    both = here.intern({"any": [[["CPU", "==", True]]], "cpus": 2, "disk": 1, "gpus": 0, "memory": 1, "time": 60})
    never = here.intern({"any": [[["GPU", "==", True]]], "cpus": 1, "disk": 1, "gpus": 0, "memory": 1, "time": 60})
    # Each of the two waits until the other runs: they end only side by side.
    meet = here.base / "meet"
    meet.mkdir()
    text = "touch {0}/$ICP_ATTEMPT; while test $(ls {0} | wc -l) -lt 2; do sleep 0.02; done"
    side = [shell(text.format('"$MEET"'), steps=[]) for _ in range(2)]
    for one in side:
        step = {"tray": 0, "iter": 0, "module": 0, "software": None, "env": {"MEET": str(meet)}}
        one["steps"] = [{**step, "argv": ["/bin/sh", "-e", "-c", text.format('"$MEET"')]}]
    wide, gpu = attempt("true", cpus=2), attempt("true")
    cards = [here.card(side[0]), here.card(side[1]), here.card(wide, need=both), here.card(gpu, need=never)]
    here.finish(here.start(*cards))
    assert [here.result(one)["r"] for one in [*side, wide]] == ["ok"] * 3
    assert gpu["a"] not in [one["a"] for one in here.of("ended")]
    assert len(os.listdir(here.where.inbox)) == 1


def test_limits_of_time_and_memory(here: Site) -> None:
    slow = shell("trap '' TERM; sleep 100", time=1)
    hungry = attempt(sys.executable, "-c", "x = b'x' * 300_000_000; import time; time.sleep(100)", memory=100_000_000)
    lent = attempt(sys.executable, "-c", "x = b'x' * 60_000_000; import time; time.sleep(2.5)", memory=1_000_000)
    big = here.intern(
        {"any": [[["CPU", "==", True]]], "cpus": 1, "disk": 1, "gpus": 0, "memory": 100_000_000, "time": 60}
    )
    here.finish(here.start(here.card(slow), here.card(hungry, need=big), here.card(lent), memory=250_000_000, cpus=3))
    fact = here.result(slow)
    assert (fact["r"], fact["kind"]) == ("error", "resource")
    assert "asked for 1 s" in fact["err"]
    fact = here.result(hungry)
    assert (fact["r"], fact["kind"], fact["exit"]) == ("error", "resource", -9)
    assert "asked for 100 MB" in fact["err"]
    assert here.result(lent)["r"] == "ok"
    assert here.result(lent)["rss"] > 60_000_000
    here.assert_clean()


def test_sigterm_returns_what_has_not_begun_and_lets_the_rest_end(site: Site) -> None:
    running, waiting = shell("sleep 2.5"), attempt("true")
    pilot = site.start(site.card(running, waiting))
    site.wait_fact("running", a=running["a"])
    site.run("kill", str(site.root / "pilots" / pilot))
    site.finish(pilot)
    assert site.result(running)["r"] == "ok"
    assert site.result(waiting)["r"] == "returned"
    assert [one["why"] for one in site.of("drain")] == ["SIGTERM"]
    assert [one["why"] for one in site.of("stopped")] == ["SIGTERM"]
    site.assert_clean()


def test_a_batch_system_that_signals_every_process_evicts(here: Site) -> None:
    one, careful, waiting = attempt("sleep", "1000"), shell("trap 'exit 7' TERM; sleep 1000 & wait"), attempt("true")
    pilot = here.start(here.card(one, waiting), here.card(careful))
    here.wait_fact("running", a=one["a"])
    here.wait_fact("running", a=careful["a"])
    _, agent = here.pids()
    tasks = [pid for pid in here.processes() if node.environment(pid, "ICP_ATTEMPT") in (one["a"], careful["a"])]
    os.kill(agent, signal.SIGSTOP)
    for pid in [*tasks, agent]:
        os.kill(pid, signal.SIGTERM)
    os.kill(agent, signal.SIGCONT)
    here.finish(pilot)
    assert [here.result(each)["r"] for each in (one, careful, waiting)] == ["evicted", "evicted", "returned"]
    here.assert_clean()


def test_at_the_end_of_the_walltime_what_runs_is_evicted(here: Site) -> None:
    need = here.intern({"any": [[["CPU", "==", True]]], "cpus": 1, "disk": 1, "gpus": 0, "memory": 1, "time": 1})
    running, later = attempt("sleep", "1000", time=1), attempt("true")
    running["time"] = 0
    pilot = here.start(here.card(running, need=need), here.card(later), walltime=17)
    here.finish(pilot)
    fact = here.result(running)
    assert (fact["r"], fact["exit"]) == ("evicted", -15)
    assert not [one for one in here.of("ended") if one["a"] == later["a"]], "an hour does not fit into 17 s"
    here.assert_clean()


def test_drain_and_cancel_by_order(here: Site) -> None:
    running, behind, other = attempt("sleep", "1000"), attempt("true"), attempt("sleep", "1")
    pilot = here.start(here.card(running, behind), here.card(other), idle=1000)
    here.wait_fact("running", a=running["a"])
    here.order(framing.frame("cancel", {"attempt": running["a"]}), framing.frame("cancel", {"attempt": behind["a"]}))
    here.wait_fact("ended", a=running["a"])
    here.order(framing.frame("drain", {"pilot": pilot}))
    here.finish(pilot)
    assert here.result(running)["r"] == here.result(behind)["r"] == "cancelled"
    assert here.result(other)["r"] == "ok"
    assert [one["why"] for one in here.of("stopped")] == ["ordered"]
    assert os.listdir(here.where.cancel) == []
    here.assert_clean()


def test_what_a_task_leaves_running_ends_with_it(site: Site) -> None:
    # In its session, in one of its own, and a daemon without a parent.
    text = "sleep 1001 & setsid sleep 1002 & (setsid sh -c 'sleep 1003 & sleep 1004' &) ; sleep 0.3"
    one, two = shell(text), shell("sleep 1.5")
    pilot = site.start(site.card(one, two), idle=1)
    site.wait_fact("ended", a=one["a"])
    until(lambda: not [pid for pid in site.processes() if b"sleep\x00100" in _command(pid)], "the end of what was left")
    assert not site.ended(pilot)
    site.finish(pilot)
    assert site.result(two)["r"] == "ok"
    site.assert_clean()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_second_incarnation_leaves(here: Site) -> None:
    pilot = here.start(idle=1000)
    here.wait_fact("started")
    done = here.run("run", "--spool", str(here.root), "--pilot", pilot)
    assert done.returncode == 0
    here.wait_fact("stopped", why="duplicate start")
    assert not here.ended(pilot)
    here.run("kill", str(here.root / "pilots" / pilot))
    here.finish(pilot)
    here.assert_clean()


def test_logs_are_capped_and_can_be_followed(here: Site) -> None:
    one = shell("head -c 3000000 /dev/zero | tr '\\0' x; echo END")
    two = shell("echo begin; sleep 7; echo end >&2")
    card = here.card(one, two)
    name = json.loads(framing.FrameParser().feed(card)[0].body)["card"]
    pilot = here.start(card)

    def tail() -> bytes:
        body: bytes = here.tick(logs=[[f"{two['a']}.tail", 0, 100000]]).all("log")[0].body
        return body

    assert b"begin\n" in until(tail, "the tail")
    here.finish(pilot)
    out, _ = here.log(one, name)
    assert len(out) <= 1 << 20
    assert out.endswith(b"xEND\n")
    assert b"bytes left out" in out
    assert here.log(two, name) == (b"begin\n", b"end\n")
    assert tail() == b""


def test_what_the_node_has_registered_is_told_by_ps(here: Site) -> None:
    pilot = here.start(idle=1000)
    lines = [json.loads(line) for line in here.run("ps", str(here.root / "pilots")).stdout.splitlines()]
    assert [(one["pilot"], one["state"], one["exit"]) for one in lines] == [(pilot, "running", None)]
    here.wait_fact("started")
    here.run("kill", str(here.root / "pilots" / pilot))
    here.finish(pilot)
    lines = [json.loads(line) for line in here.run("ps", str(here.root / "pilots")).stdout.splitlines()]
    assert [(one["state"], one["id"].startswith("pid:")) for one in lines] == [("ended", True)]
    note = here.root / "pilots" / pilot / "pid"
    (here.root / "pilots" / pilot / "exit").unlink()
    note.write_text(json.dumps({**json.loads(note.read_text()), "host": "elsewhere"}))
    assert json.loads(here.run("ps", str(here.root / "pilots")).stdout)["state"] == "unknown"


def test_small_in_memory(here: Site) -> None:
    one = shell("sleep 3")
    pilot = here.start(here.card(one), idle=1000)
    here.wait_fact("running", a=one["a"])
    total = sum(_pss(pid) for pid in here.pids())
    os.kill(here.pids()[1], signal.SIGTERM)
    here.finish(pilot)
    assert total < 25e6, "proportional memory of agent and supervisor together"


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def test_an_agent_that_is_there_for_one_card_leaves_the_others_and_leaves_when_that_is_done(site: Site) -> None:
    mine, other = shell("true"), shell("true")
    card, strange = site.card(mine), site.card(other, priority=5)
    (name, left) = (framing.FrameParser().feed(one)[0].meta["name"] for one in (card, strange))
    site.order(*site.needs(), strange)
    pilot = site.start(card, idle=600, only=[name])
    site.finish(pilot)
    assert site.result(mine)["r"] == "ok"
    assert [fact["why"] for fact in site.of("stopped")] == ["its card is done"]
    assert os.listdir(site.root / "inbox") == [left]


def test_an_agent_whose_only_card_was_called_back_leaves(here: Site) -> None:
    card = here.card(shell("true"))
    name = framing.FrameParser().feed(card)[0].meta["name"]
    here.order(*here.needs(), card)
    here.order(framing.frame("recall", {"card": name}))
    pilot = here.start(idle=600, only=[name])
    here.finish(pilot)
    assert [fact["why"] for fact in here.of("stopped")] == ["its card is done"]
    assert here.of("claimed") == []
