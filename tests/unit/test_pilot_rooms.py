"""The pilot's small rooms: needs, packing, statistics, outputs, the program as one file, and cards in the
foreground.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.backends import ship
from icp.pilot import offer, spool, stage
from icp.pilot.here import run_card_here
from icp.pilot.needs import compare
from icp.pilot.slots import PATIENCE, Room, worst

NEED: dict[str, Any] = {"any": [[["CPU", "==", True]]], "cpus": 1, "memory": 10, "disk": 10, "gpus": 0, "time": 60}


@pytest.mark.parametrize(
    ("clauses", "true"),
    [
        ([], False),
        ([[]], True),
        ([[["CPU", "==", True]]], True),
        ([[["CPU", "==", 1]]], False),
        ([[["N", "==", 8.0]]], True),
        ([[["N", ">", 8]]], False),
        ([[["N", "<=", 8]]], True),
        ([[["N", "<", "9"]]], False),
        ([[["N", "!=", "8"]]], True),
        ([[["X", "<", 3]]], False),
        ([[["X", "!=", 3]]], False),
        ([[["X", "!=", True]]], True),
        ([[["CPU", "!=", True]]], False),
        ([[["S", ">=", "a"]]], True),
        ([[["S", "?", "a"]]], False),
        ([[["X", "==", 1], ["CPU", "==", True]], [["S", "==", "b"]]], True),
    ],
)
def test_comparisons(clauses: Any, true: bool) -> None:
    assert compare(clauses, {"CPU": True, "N": 8, "S": "b"}) is true


# --- packing


def test_room_is_what_was_not_promised_or_lent() -> None:
    room = Room(4, 100, 100, ["0", "7"], None, {"CPU": True})
    gpu = {**NEED, "gpus": 1, "memory": 30}
    first, second = room.take(gpu), room.take(gpu)
    assert [first.gpus, second.gpus] == [["0"], ["7"]]
    assert not room.has_free(gpu)
    assert room.has_free({**NEED, "memory": 40})
    first.used_memory = 50
    assert not room.has_free({**NEED, "memory": 40})
    room.give_back(first)
    assert room.has_free(gpu)
    assert not room.suits({**NEED, "gpus": 3}, 0.0)
    assert not room.suits({**NEED, "any": [[["GPU", "==", True]]]}, 0.0)


def test_nothing_is_claimed_that_cannot_end() -> None:
    room = Room(1, 100, 100, [], 1000.0, {"CPU": True})
    assert room.suits(NEED, 940.0)
    assert not room.suits(NEED, 941.0)


def names(*needs: str) -> list[str]:
    return [f"5000-{need * 16}-{index:016x}" for index, need in enumerate(needs)]


def test_a_card_that_was_passed_over_too_long_is_waited_for() -> None:
    room = Room(2, 100, 100, [], None, {"CPU": True})
    needs = {"a": {**NEED, "cpus": 2}, "b": NEED, "c": {**NEED, "cpus": 9}}

    def need_of(name: str) -> dict[str, Any] | None:
        return needs.get(name.split("-")[1][0])

    share = room.take(NEED)
    cards = names("c", "x", "a", "b", "b")
    assert room.choose(cards, need_of, lambda count: count - 1, 0.0) == cards[4]
    assert room.choose(cards, need_of, lambda count: 0, PATIENCE) == cards[3]
    assert room.choose(cards, need_of, lambda count: 0, PATIENCE + 1) is None
    room.give_back(share)
    assert room.choose(cards, need_of, lambda count: 0, PATIENCE + 1) == cards[2]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=6), st.integers(1, 300))
@settings(deadline=None)
def test_who_must_stop(table: list[tuple[int, int]], limit: int) -> None:
    index = worst(table, limit)
    asked = sum(max(promised, used) for promised, used in table)
    if index is None:
        assert asked <= limit or all(used <= promised for promised, used in table)
    else:
        promised, used = table[index]
        assert asked > limit
        assert used > promised, "who keeps to its promise is never stopped"
        assert used - promised == max(one - other for other, one in table)


# --- staging


@pytest.mark.parametrize(
    ("text", "found", "wrong"),
    [
        ('{"a": 1, "b": 2.5}', {"a": 1, "b": 2.5}, False),
        ("a 1\nb += 2\nb += 3\n\nc = 1e3", {"a": 1, "b": 5, "c": 1000}, False),
        ("a 1\nnonsense\n", {"a": 1}, True),
        ("a one", {}, True),
        ('{"a": "x", "b": 1}', {"b": 1}, True),
        ("a nan\nb inf", {}, True),
        ('{"a": true}', {}, True),
        ("{broken", {}, True),
        ("", {}, False),
    ],
)
def test_statistics(tmp_path: Path, text: str, found: dict[str, float], wrong: bool) -> None:
    path = tmp_path / "stats"
    path.write_text(text)
    stats, what = stage.statistics(str(path))
    assert stats == found
    assert (what is not None) is wrong


def test_outputs_must_lie_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "other").touch()
    for name in ("../other", "/etc/passwd"):
        with pytest.raises(stage.Problem):
            stage.declared_outputs([{"name": name}], str(tmp_path / "work"))
    (tmp_path / "work" / "[x]").touch()
    assert stage.declared_outputs([{"name": "[x]", "glob": False, "optional": True}], str(tmp_path / "work")) == []


# --- the program


def test_the_program_is_the_same_bytes_each_time_and_holds_only_the_pilot(tmp_path: Path) -> None:
    program = ship.build()
    assert ship.build() == program
    path, again = ship.cached(tmp_path)
    assert again == program
    assert path.name == program.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == program.sha256
    with zipfile.ZipFile(io.BytesIO(program.data)) as archive:
        held = archive.namelist()
        assert archive.read("icp/__init__.py") == b""
    assert {name for name in held if not name.startswith("icp/pilot/")} == {
        "__main__.py",
        "icp/__init__.py",
        "icp/__init__.pyc",
    }
    assert "icp/pilot/agent.py" in held
    assert ship.cached(tmp_path)[0] == path


def test_a_node_offers_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert offer.gpus(None) == ["3", "5"]
    assert offer.gpus(1) == ["3"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert offer.gpus(2) == ["0", "1"]
    assert offer.cpus(None) >= 1
    assert offer.cpus(7) == 7
    assert offer.memory(None, 1) > 1 << 20
    assert offer.attributes({"GPU": True}, 2, [])["GPU"] is True
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert offer.choose_scratch("/nonexistent", "", 1000) == str(tmp_path)
    assert offer.choose_scratch("/nonexistent", "", 1 << 60) == ""


# --- in the foreground


def spec(name: str, text: str, out: list[str], **more: Any) -> dict[str, Any]:
    step: dict[str, Any] = {
        "tray": 0,
        "iter": 0,
        "module": 0,
        "software": None,
        "env": {},
        "argv": ["/bin/sh", "-e", "-c", text],
    }
    return {
        "a": f"{name:0>16}",
        "k": "k",
        "dataset": "d",
        "job": 3,
        "task": name,
        "try": 1,
        "after": [],
        "cpus": 1,
        "gpus": 0,
        "time": 1,
        "files": [],
        "in": [],
        "steps": [step],
        "out": [{"name": one, "optional": False} for one in out],
        **more,
    }


def test_a_card_in_the_foreground(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("sim.py")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"print"))
    (tmp_path / "pack").write_bytes(target.getvalue())
    digest = hashlib.sha256(target.getvalue()).hexdigest()
    (tmp_path / "home").write_text("from home")
    make = spec("make", "cat sim.py h; echo oops >&2; echo 1 > x; echo 'n 2' > \"$ICP_STATS\"", ["x"], files=[digest])
    make["in"] = [{"name": "h", "from": ["cache", "0" * 64], "sha256": None}]
    use = spec("use", "cat x > y; exit 4", ["y"], after=[make["a"]])
    use["in"] = [{"name": "x", "from": ["store", make["a"]], "sha256": None}]
    never = spec("never", "true", [], after=[use["a"]])
    out, err = io.BytesIO(), io.BytesIO()
    for _ in range(2):  # What is there from last time is replaced.
        out.truncate(0)
        facts = run_card_here(
            {"attempts": [make, use, never]},
            str(tmp_path / "here"),
            lambda origin, name: str(tmp_path / "home"),
            lambda sha256: str(tmp_path / "pack"),
            out,
            err,
        )
    assert [fact["r"] for fact in facts] == ["ok", "error", "returned"]
    assert facts[0]["stats"] == {"n": 2}
    assert facts[0]["out"][0][:3] == [0, "x", 2]
    assert facts[1]["exit"] == 4
    assert out.getvalue().endswith(b"printfrom home")
    assert (tmp_path / "here/use/y").read_text() == "1\n"
    assert (tmp_path / "here/.make/err").read_text() == "oops\n"
    here = os.getcwd()
    assert Path(here).exists()
    assert not (tmp_path / "here/never").exists()


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    one = spec("x", "", [])
    one["steps"][0]["argv"] = ["no-such-command"]
    (fact,) = run_card_here({"attempts": [one]}, str(tmp_path), lambda origin, name: "", lambda sha256: "")
    assert (fact["r"], fact["kind"]) == ("error", "payload")
    assert "no-such-command" in fact["err"]
    assert spool.check_id(fact["a"])
    assert sys.executable


def test_the_program_does_not_depend_on_what_else_was_imported() -> None:
    text = "from icp.backends import ship; print(ship.build().sha256)"
    bare = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout
    many = "import asyncio, icp.pilot.agent, icp.pilot.exchange, icp.pilot.background, http.client; "
    assert subprocess.run([sys.executable, "-c", many + text], capture_output=True, check=True).stdout == bare
