"""A card that travels with its batch job: the bag filled, run elsewhere, brought back and read, whatever dies, tears or lies in between."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pilot_site import LEDGER, Site, old_python, shell, sites, tree, until

from icp.pilot import bag, framing, live, spool
from icp.pilot.disk import Disk
from tests.starter import Starter

pytestmark = pytest.mark.long

PILOT = "0123456789abcdef"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)


@pytest.fixture(params=["this", "3.6"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    python = sys.executable if request.param == "this" else old_python()
    if python is None:
        pytest.skip("no Python 3.6 was found in PATH or ~/.pyenv: the pilot was not tried under it")
    yield from sites(tmp_path, python)


def name_of(card: bytes) -> str:
    return str(framing.FrameParser().feed(card)[0].meta["name"])


def submit(site: Site, card: bytes, *, batch: str = "launch", **told: Any) -> bytes:
    """The order that submits a pilot with its bag. The batch system is a script: it copies what is to travel, runs it there, copies ``back``."""
    config = {"pilot": PILOT, "ledger": LEDGER, "idle": 0.5, "cpus": 2, "memory": 4 * 10**9, "disk": 10**8, "gpus": 0, "heartbeat": 1, "only": [name_of(card)]}
    there = site.base / "worker"
    words = shlex.join([site.python, "-I", "-S", str(site.program), "bagged", "--spool", "bag", "--pilot", PILOT])
    # copies, not links: what is written there is nowhere else
    script = (
        f"#!/bin/sh\nhere=$PWD; mkdir {shlex.quote(str(there))}; cp -r bag {shlex.quote(str(there))}; cd {shlex.quote(str(there))}; : > back\n"
        f"trap 'kill -TERM $!' TERM\n{words} & wait; wait\nrm -rf bag; cp back \"$here/back.part\"; mv \"$here/back.part\" \"$here/back\"\n"
    )
    argv = ["{python}", "-I", "-S", "{program}", "launch", "{dir}"] if batch == "launch" else ["true"]
    files = {"pilot.json": json.dumps({**config, **told}), "submit.sh": script}
    return framing.frame("submit", {"pilot": PILOT, "argv": argv, "bag": name_of(card), "files": files})


def gather(site: Site, env: dict[str, str] | None = None) -> dict[str, Any]:
    said: dict[str, Any] = site.order(framing.frame("gather", {"pilot": PILOT}), env=env).one("applied")["gather"][PILOT]
    return said


def parent(site: Site) -> dict[str, Any]:
    """An attempt whose output is in the site's store."""
    first = shell("true")
    folder = site.root / "store" / first["a"]
    folder.mkdir(parents=True)
    (folder / "in.txt").write_text("from a parent")
    return first


def test_a_card_travels_with_its_job_and_what_it_did_comes_back(both: Site) -> None:
    site = both
    site.order(*site.needs())
    first = parent(site)
    source = {"name": "in.txt", "from": ["store", first["a"]], "sha256": None}
    one = shell("cat in.txt; echo err >&2; mkdir sub; cat in.txt > 'sub/o t'; head -c 3000000 /dev/zero > big", out=["sub/o t", "big"], **{"in": [source]})
    two = shell("exit 4")
    card = site.card(one, two)
    site.order(card, submit(site, card))
    folder = Path(site.where.pilot(PILOT))
    assert os.listdir(site.where.inbox) == []
    until((folder / "back").exists, "the end of the job")
    site.tick()
    assert site.facts == [] and os.listdir(site.where.agents) == [], "nobody knows before it was gathered"
    said = gather(site)
    assert said == {"card": spool.card_id(name_of(card)), "how": "done", "back": "whole"}
    site.tick()
    assert site.result(one)["r"] == "ok" and site.result(two)["exit"] == 4
    assert site.of("stopped")[0]["why"] == "its card is done"
    assert site.stored(one, "sub/o t") == b"from a parent" and site.stored(one, "big") == bytes(3000000)
    assert (site.root / "store" / one["a"] / "big").stat().st_mode & 0o777 == 0o444
    assert site.log(one, spool.card_id(name_of(card))) == (b"from a parent", b"err\n")
    assert sorted(os.listdir(site.where.store)) == sorted([first["a"], one["a"]])
    assert not {"bag", "back", "back.d"} & set(os.listdir(folder))
    assert [os.listdir(f"{site.where.agents}/{agent}/claimed") for agent in os.listdir(site.where.agents)] == [[]]
    # asked again, under another serial
    assert gather(site) == said


def test_while_it_runs_the_starter_is_told_of_lines_that_come_with_the_end(both: Site, tmp_path: Path) -> None:
    site = both
    starter = Starter(tmp_path)
    site.env["_CONDOR_SCRATCH_DIR"] = str(tmp_path)
    try:
        one = shell("sleep 9")
        card = site.card(one)
        site.order(*site.needs(), card, submit(site, card))
        said = until(lambda: [line for line in starter.heard if ".running." in line], "a word while it runs")
        until((Path(site.where.pilot(PILOT)) / "back").exists, "the end of the job")
    finally:
        starter.close()
    told = live.parse(said[-1].partition('"')[2].rstrip('"'))
    assert told is not None and [one.word for one in told.said] == ["claimed", "running"]
    gather(site)
    site.tick()
    assert site.result(one)["r"] == "ok"
    lines = {(name, fact["n"]): spool.line(fact)[:8].decode() for name, fact in site.facts}
    assert all(lines[f"{told.agent}/journal", one.n] == one.crc for one in told.said)


def test_a_starter_that_hangs_up_keeps_nothing_from_its_end(site: Site, tmp_path: Path) -> None:
    starter = Starter(tmp_path, "")
    site.env["_CONDOR_SCRATCH_DIR"] = str(tmp_path)
    try:
        one = shell("sleep 7; echo x > a.txt", out=["a.txt"])
        card = site.card(one)
        site.order(*site.needs(), card, submit(site, card))
        until((Path(site.where.pilot(PILOT)) / "back").exists, "the end of the job")
    finally:
        starter.close()
    assert gather(site)["how"] == "done"
    site.tick()
    assert site.result(one)["r"] == "ok" and site.stored(one, "a.txt") == b"x\n"


def test_an_agent_that_is_told_to_end_brings_back_what_it_had(site: Site) -> None:
    done, long, behind = shell("echo x > a.txt", out=["a.txt"]), shell("sleep 600"), shell("true")
    card = site.card(done, long, behind)
    site.order(*site.needs(), card, submit(site, card))
    journal = until(lambda: list((site.base / "worker").glob("bag/agents/*/journal.1")), "the agent")[0]
    until(lambda: b'"running"' in journal.read_bytes(), "the second task")
    main = [pid for pid in site.processes() if b"bagged" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(min(main), signal.SIGTERM)
    until((Path(site.where.pilot(PILOT)) / "back").exists, "the end of the job")
    assert gather(site)["how"] == "done"
    site.tick()
    assert [site.result(one)["r"] for one in (done, long, behind)] == ["ok", "evicted", "returned"]
    assert site.stored(done, "a.txt") == b"x\n"


def test_an_agent_that_is_killed_leaves_its_card_with_it(site: Site) -> None:
    done, long = shell("echo x > a.txt", out=["a.txt"]), shell("sleep 600")
    card = site.card(done, long)
    site.order(*site.needs(), card, submit(site, card))
    journal = until(lambda: list((site.base / "worker").glob("bag/agents/*/journal.1")), "the agent")[0]
    until(lambda: b'"running"' in journal.read_bytes(), "the second task")
    _, agent = site.pids()
    os.kill(agent, signal.SIGKILL)
    until((Path(site.where.pilot(PILOT)) / "back").exists, "the end of the job")
    assert gather(site)["how"] == "claimed"
    (listed,) = site.tick().one("agents")
    assert listed[3] == [spool.card_id(name_of(card))]
    assert [fact["f"] for name, fact in site.facts if name.endswith("/supervisor")] == ["agent_died"]
    assert site.result(done)["r"] == "ok"


def test_a_job_that_never_began_gives_its_card_back(site: Site) -> None:
    card = site.card(shell("true"))
    site.order(*site.needs(), card, submit(site, card, batch="none"))
    name = name_of(card)
    # as long as nobody said that the job is over, it may be running it
    assert site.order(framing.frame("recall", {"card": name})).one("applied")["recall"] == {name: "claimed"}
    assert gather(site) == {"card": spool.card_id(name), "how": "recalled", "back": "none"}
    assert site.order(framing.frame("recall", {"card": name})).one("applied")["recall"] == {name: "recalled"}


def test_a_card_that_was_called_back_is_not_submitted(site: Site) -> None:
    card = site.card(shell("true"))
    site.order(*site.needs(), card)
    site.order(framing.frame("recall", {"card": name_of(card)}))
    receipt = site.order(submit(site, card, batch="none")).one("applied")["submit"][PILOT]
    assert receipt["rc"] == 1 and "called back" in receipt["err"]
    assert gather(site)["how"] == "none"


def test_a_ledger_that_forgot_is_told_of_every_bag(site: Site) -> None:
    card = site.card(shell("true"))
    site.order(*site.needs(), card, submit(site, card, batch="none"))

    def told() -> list[tuple[dict[str, Any], bytes]]:
        return [(one.meta, one.body) for one in site.tick(cards=True).frames if one.kind == "bag"]

    ((about, body),) = told()
    assert (about["pilot"], about["name"], about["gathered"], about["told"]["pilot"]) == (PILOT, name_of(card), None, PILOT)
    assert about["receipt"]["rc"] == 0
    assert body == framing.FrameParser().feed(card)[0].body
    gather(site)
    ((about, body),) = told()
    assert (about["name"], about["gathered"]["how"], body) == (None, "recalled", b"")
    site.order(framing.frame("drop", {"pilot": PILOT}))
    assert told() == []


# --- killed


def prepared(site: Site, attempts: list[dict[str, Any]] | None = None) -> tuple[str, list[dict[str, Any]], dict[str, bytes]]:
    """A pilot whose job is over: (card's name, its attempts, what a good ``back`` holds)."""
    some = attempts or [shell("true", a="a" * 16, k="b" * 16), shell("true", a="c" * 16, k="d" * 16)]
    content = {"card": "e" * 16, "format": 1, "need": site.need, "attempts": some}
    name = spool.join_card_name(0, site.need, "e" * 16)
    card = framing.frame("card", {"name": name}, json.dumps(content).encode())
    site.order(*site.needs(), card, submit(site, card, batch="none"))
    agent = f"{PILOT}.0.{'f' * 16}"
    facts = [{"f": "started"}, {"f": "claimed", "card": "e" * 16}, *({"f": "ended", "a": one["a"], "k": one["k"], "r": "ok"} for one in some), {"f": "stopped"}]
    journal = b"".join(spool.line({"n": n, "t": 1.0, **fact}) for n, fact in enumerate(facts, 1))
    held = {f"store/{some[0]['a']}/x/y": b"y" * 3000, f"store/{some[1]['a']}/z": b"", f"logs/{'e' * 16}": b"printed", f"agents/{agent}/journal.1": journal}
    return name, some, held


def packed(held: dict[str, bytes]) -> bytes:
    return b"".join(framing.frame("file", {"name": name, "size": len(data), "offset": 0}, data) for name, data in held.items()) + framing.frame("end", {})


POINTS = ["bag.unpacked", "bag.placed", "bag.placed:2", "bag.placed:4", "bag.noted", "exchange.moved:gather", "exchange.applied"]


@pytest.mark.parametrize("action", ["kill", "enospc"])
@pytest.mark.parametrize("point", POINTS)
def test_gathering_that_is_interrupted_anywhere_is_the_same_in_the_end(tmp_path: Path, point: str, action: str) -> None:
    outcomes = []
    for env in (None, "fault"):
        base = tmp_path / str(env)
        base.mkdir()
        for site in sites(base):
            _, _, held = prepared(site)
            (Path(site.where.pilot(PILOT)) / "back").write_bytes(packed(held))
            (base / "token").touch()
            name, _, visits = point.partition(":") if point.startswith("bag") else (point, "", "")
            said = gather(site, None if env is None else {"ICP_FAULT": f"{name}:{visits or 1}:{base / 'token'}:{action}"})
            assert env is None or not (base / "token").exists(), "the fault did not happen"
            files = {key: data for key, data in tree(site.root, leave=["lock", "swept"]).items() if "receipt" not in key and "applied" not in key}
            outcomes.append((said, {key: data for key, data in files.items() if not key.startswith("owner") and "submit.sh" not in key}))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]["how"] == "done"


@pytest.mark.parametrize("point", ["bag.card", "bag.filled"])
def test_a_bag_whose_filling_is_interrupted_is_filled_in_the_end(site: Site, tmp_path: Path, point: str) -> None:
    site.order(*site.needs())
    first = parent(site)
    card = site.card(shell("true", **{"in": [{"name": "in.txt", "from": ["store", first["a"]], "sha256": None}]}))
    (tmp_path / "token").touch()
    receipt = site.order(card, submit(site, card, batch="none"), env={"ICP_FAULT": f"{point}:1:{tmp_path / 'token'}"}).one("applied")["submit"][PILOT]
    assert receipt["rc"] == 0 and not (tmp_path / "token").exists()
    folder = Path(site.where.pilot(PILOT)) / "bag"
    assert os.listdir(folder / "inbox") == [name_of(card)] and len(os.listdir(folder / "needs")) == 1
    assert (folder / "store" / first["a"] / "in.txt").read_text() == "from a parent"
    assert json.loads((folder / "pilots" / PILOT / "pilot.json").read_text())["only"] == [name_of(card)]


# --- torn, and false


def nothing_taken(site: Site, said: dict[str, Any]) -> None:
    assert said["how"] == "recalled" and said["back"] not in ("whole", "none"), said
    for folder in (site.where.store, site.where.logs, site.where.agents):
        assert os.listdir(folder) == []
    assert not (Path(site.where.pilot(PILOT)) / "back.d").exists()


def test_what_is_cut_anywhere_is_not_taken_at_all(site: Site) -> None:
    _, _, held = prepared(site)
    whole = packed(held)
    folder = Path(site.where.pilot(PILOT))
    ends = [0]
    while ends[-1] < len(whole):
        ends.append(ends[-1] + framing.first_frame_size(whole[ends[-1] :]))
    cuts = sorted({0, *ends[1:-1], *(end - 1 for end in ends[1:]), *(end + 5 for end in ends[:-1]), *(end + 60 for end in ends[:-1])})
    card = (folder / "bag" / "inbox").iterdir().__next__().read_bytes()
    for cut in (one for one in cuts if one < len(whole)):
        (folder / "back").write_bytes(whole[:cut])
        nothing_taken(site, bag.gather(site.where, PILOT, Disk()))
        # as before
        (folder / "gathered.json").unlink()
        (folder / "bag" / "inbox").mkdir(parents=True)
        (folder / "bag" / "inbox" / spool.join_card_name(0, site.need, "e" * 16)).write_bytes(card)
    (folder / "back").write_bytes(whole)
    assert bag.gather(site.where, PILOT, Disk())["how"] == "done"


def _piece(name: Any, data: bytes = b"x", size: Any = None, offset: Any = 0) -> bytes:
    return framing.frame("file", {"name": name, "size": len(data) if size is None else size, "offset": offset}, data)


END = framing.frame("end", {})
OWN = "store/" + "a" * 16
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "upwards": lambda good: _piece(f"{OWN}/../../owner") + good,
    "absolute": lambda good: _piece("/etc/passwd") + good,
    "another attempt": lambda good: _piece(f"store/{'9' * 16}/x") + good,
    "no output": lambda good: _piece(OWN) + good,
    "another card's log": lambda good: _piece(f"logs/{'9' * 16}") + good,
    "another pilot's agent": lambda good: _piece(f"agents/{'9' * 16}.0.{'f' * 16}/journal.1") + good,
    "a claim": lambda good: _piece(f"agents/{PILOT}.0.{'f' * 16}/claimed/x") + good,
    "fenced": lambda good: _piece(f"fenced/{PILOT}.0.{'f' * 16}/journal.1") + good,
    "the inbox": lambda good: _piece(f"inbox/0-{'0' * 16}-x") + good,
    "the owner": lambda good: _piece("owner") + good,
    "no name": lambda good: _piece(None) + good,
    "a number": lambda good: _piece(7) + good,
    "NUL": lambda good: _piece(f"{OWN}/a\0b") + good,
    "twice": lambda good: _piece(f"{OWN}/t") + _piece(f"{OWN}/t") + good,
    "a file and a folder": lambda good: _piece(f"{OWN}/t") + _piece(f"{OWN}/t/u") + good,
    "larger than it says": lambda good: _piece(f"{OWN}/t", b"xxxx", size=2) + good,
    "a size that is none": lambda good: _piece(f"{OWN}/t", size="1") + good,
    "less than nothing": lambda good: _piece(f"{OWN}/t", size=-1) + good,
    "no end of nothing": lambda good: _piece(f"{OWN}/t", b"", size=5) + good,
    "a hole": lambda good: _piece(f"{OWN}/t", b"xx", size=6) + _piece(f"{OWN}/t", b"xx", size=6, offset=4) + good,
    "mixed": lambda good: _piece(f"{OWN}/t", b"xx", size=4) + _piece(f"{OWN}/u", b"xx", size=4, offset=2) + good,
    "another kind": lambda good: framing.frame("card", {"name": "x"}, b"x") + good,
    "no object": lambda good: framing.frame("file", ["x"], b"x") + good,
    "behind the end": lambda good: good + _piece(f"{OWN}/t"),
    "bytes behind the end": lambda good: good + b"x",
    "a wrong checksum": lambda good: good.replace(b"printed", b"prinked"),
    "a frame without end": lambda good: b"ICP1 file 10 99999999999 00000000\n" + bytes(6 << 20) + good,
    "not ours": lambda good: b"\x1f\x8b" + good,
}


@pytest.mark.parametrize("how", sorted(HOSTILE))
def test_what_no_pilot_of_ours_sends_is_not_taken_at_all(site: Site, how: str) -> None:
    _, _, held = prepared(site)
    before = tree(site.root, leave=["lock", "swept", "pilots"])
    folder = Path(site.where.pilot(PILOT))
    (folder / "back").write_bytes(HOSTILE[how](packed(held)))
    nothing_taken(site, bag.gather(site.where, PILOT, Disk()))
    assert tree(site.root, leave=["lock", "swept", "pilots"]) == before


def test_what_is_no_file_is_not_read(site: Site, tmp_path: Path) -> None:
    _, _, held = prepared(site)
    (tmp_path / "elsewhere").write_bytes(packed(held))
    (Path(site.where.pilot(PILOT)) / "back").symlink_to(tmp_path / "elsewhere")
    assert bag.gather(site.where, PILOT, Disk()) == {"card": "e" * 16, "how": "recalled", "back": "none"}
    assert (tmp_path / "elsewhere").exists()


def test_links_that_a_task_makes_are_not_brought_back(tmp_path: Path) -> None:
    where = spool.Spool(str(tmp_path / "bag"))
    for folder in (where.root, *where.folders()):
        os.mkdir(folder)
    (tmp_path / "bag/store/a1").mkdir()
    (tmp_path / "bag/store/a1/link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "bag/store/a1/fifo")
    (tmp_path / "bag/store/a1/out").write_text("out")
    (tmp_path / "bag/store/parent").mkdir()
    (tmp_path / "bag/store/parent/in").write_text("in")
    bag.pack(where, {"parent/in"}, str(tmp_path / "back"))
    frames = framing.FrameParser().feed((tmp_path / "back").read_bytes())
    assert [(one.kind, one.meta.get("name"), one.body) for one in frames] == [("file", "store/a1/out", b"out"), ("end", None, b"")]
