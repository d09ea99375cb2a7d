"""Inputs and outputs by URL in the main job, from the steering file to what `icp show` says of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web import Plan, Web

from icp.cli import main
from icp.ledger.check import check
from icp.ledger.db import open_ledger
from icp.places import places

pytestmark = pytest.mark.long

GCD, EVENTS = b"geometry\n" * 50, [b"events of job %d\n" % job for job in range(3)]

STEERING = """\
jobs.csv = "runs.csv"
[task.make]
inputs  = ["{web}/gcd/gcd.i3", {{ url = "{web}/runs/$args(name).i3", name = "in.i3", sha256 = "$args(sum)", size = "$args(bytes)" }}]
command = "cat gcd.i3 in.i3 > out.i3; wc -c < out.i3 > size.txt"
outputs = [{{ name = "out.i3", url = "{web}/out/$args(job).i3" }}, {{ name = "*.txt", url = "{copies}/$args(job)/", keep = true }}]
[task.use]
inputs  = ["make:out.i3", {{ url = "{web}/gcd/gcd.i3", name = "geometry/gcd.i3", sha256 = "{gcd}", md5 = "{md5}" }}]
command = "cmp out.i3 geometry/gcd.i3 || cat out.i3 > same.txt; echo done > log.txt"
outputs = ["same.txt", {{ name = "log.txt", url = "{copies}/$args(job)/" }}]
[final.all]
inputs  = ["use:same.txt[*]", "{web}/gcd/gcd.i3"]
command = "cat inputs.list gcd.i3 > all.txt"
outputs = ["all.txt"]
"""


@pytest.fixture
def web() -> Iterator[Web]:
    served = Web()
    served.files.update({f"/runs/run{job}.i3": data for job, data in enumerate(EVENTS)})
    served.files["/gcd/gcd.i3"] = GCD
    yield served
    served.close()


@pytest.fixture
def steering(tmp_path: Path, web: Web) -> Path:
    where = places().config
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text("[run]\npause_local = 0.05\n[policy]\nbackoff = [0]\n[site.local.pilot]\ncpus = 2\nidle = 1\n")
    rows = "".join(f"run{job},{hashlib.sha256(data).hexdigest()},{len(data)}\n" for job, data in enumerate(EVENTS))
    (tmp_path / "runs.csv").write_text("name,sum,bytes\n" + rows)
    file = tmp_path / "away.toml"
    gcd, md5 = hashlib.sha256(GCD).hexdigest(), hashlib.md5(GCD, usedforsecurity=False).hexdigest()
    file.write_text(STEERING.format(web=web.url(""), copies=f"file://{tmp_path}/copies", gcd=gcd, md5=md5))
    return file


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_files_come_from_urls_and_go_to_them(steering: Path, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.plans = [Plan(cut=10), Plan(status=500)]
    assert main(["submit", str(steering)]) == 0
    assert main(["run", "--until-done"]) == 0
    home = tmp_path / "outputs" / "away"
    for job, data in enumerate(EVENTS):
        assert web.files[f"/out/{job}.i3"] == GCD + data
        assert (tmp_path / "copies" / str(job) / "size.txt").read_text().split() == [str(len(GCD + data))]
        # kept as it says, and what another task reads is at the site too, but not at home
        assert sorted(os.listdir(home / f"{job:06d}")) == ["same.txt", "size.txt"]
        assert (home / f"{job:06d}" / "same.txt").read_bytes() == GCD + data
        assert (tmp_path / "copies" / str(job) / "log.txt").read_text() == "done\n"
    assert (home / "final" / "000000" / "all.txt").read_bytes() == b"".join(b"inputs/use/%06d/same.txt\n" % job for job in range(3)) + GCD
    assert not list(places().state.rglob("log.txt"))
    tasks = {one["task"]["task"]: one["attempts"][-1] for one in shown(capsys, "show", "away", "--job", "1")["tasks"]}
    said = {one["name"]: one for one in tasks["make"]["transfers"]}
    assert {name: (one["how"], one["bytes"]) for name, one in said.items()} == {
        "gcd.i3": ("fetched", len(GCD)), "in.i3": ("fetched", len(EVENTS[1])), "out.i3": ("stored", len(GCD + EVENTS[1])), "size.txt": ("stored", 4),
    }  # fmt: skip
    assert said["in.i3"]["sha256"] == hashlib.sha256(EVENTS[1]).hexdigest() and said["in.i3"]["url"] == web.url("/runs/run1.i3")
    assert [one["name"] for one in tasks["use"]["transfers"]] == ["geometry/gcd.i3", "log.txt"]
    # with a sha256 it is fetched once for the site
    of_jobs = [shown(capsys, "show", "away", "--job", job, "--task", "use")["tasks"][0] for job in "012"]
    assert sorted(one["attempts"][-1]["transfers"][0]["how"] for one in of_jobs) == ["cache", "cache", "fetched"]
    assert main(["show", "away", "--job", "1"]) == 0
    text = capsys.readouterr().out
    assert "fetched in.i3" in text and web.url("/out/1.i3") in text
    sums = {(row["task"], row["name"]): (row["n"], row["sum"]) for row in shown(capsys, "stats", "away")}
    assert sums["make", "stored"] == (3, sum(len(GCD + data) + 4 for data in EVENTS))
    assert sums["make", "fetched"] == (3, sum(len(GCD + data) for data in EVENTS))
    ledger = open_ledger(places().ledger)
    assert list(check(ledger)) == []
    ledger.close()


def test_what_cannot_be_had_is_a_failure_of_the_stage_that_names_it(
    steering: Path, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.files["/runs/run2.i3"] = b"x" * len(EVENTS[2])
    del web.files["/runs/run1.i3"]
    assert main(["submit", str(steering)]) == 0
    main(["run", "--until-done"])
    assert (tmp_path / "outputs" / "away" / "000000" / "same.txt").exists()
    assert not (tmp_path / "outputs" / "away" / "000002").exists()
    sums = [hashlib.sha256(data).hexdigest() for data in (b"x" * len(EVENTS[2]), EVENTS[2])]
    for job, words in {"1": ["404", web.url("/runs/run1.i3")], "2": sums}.items():
        task = shown(capsys, "show", "away", "--job", job)["tasks"][0]
        assert task["task"]["state"] == "failed"
        last = task["attempts"][-1]
        assert last["kind"] == "stage" and "in.i3" in last["text"] and all(word in last["text"] for word in words)


def test_a_scheme_that_no_site_knows_is_told_at_submit(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steering.write_text('[task.t]\ncommand = "true"\ninputs = ["gsiftp://host/x.i3"]\n')
    assert main(["submit", str(steering)]) == 2
    said = capsys.readouterr().err
    assert "gsiftp://" in said and "transfer.gsiftp.get" in said and "gfal-copy" in said
    assert main(["config", "set", "transfer.gsiftp.get", "gfal-copy -f {url} file://{file}"]) == 0
    assert main(["submit", str(steering)]) == 0


def test_mistakes_are_told_all_at_once(steering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steering.write_text("""\
[task.t]
command = "true"
inputs = [
  { url = "no-url" },
  { url = "https://host/a b" },
  { url = "https://me:secret@host/x" },
  { url = "https://host/folder/" },
  { url = "https://host/x", sha256 = "12", md5 = "XY", size = -1 },
  { url = "https://host/$args(nothing)" },
  { url = "https://host/$system(tmp)/y" },
  { url = "https://host/z", name = "../z" },
  { url = "https://host/one/twice" }, "https://host/two/twice",
  { name = "nowhere" },
  { url = "https://host/w", sum = "12" },
  { url = "https://host/v", sha256 = "$args(job)" },
]
outputs = [{ name = "a*", url = "https://host/one" }, { name = "b", url = "https://host" }, { name = "twice2", url = "file:///x/$eval(1/0)" }]
""")
    assert main(["validate", str(steering)]) == 2
    said = capsys.readouterr().err
    for words in (
        "'no-url' does not begin with", "a blank", "holds a password", "does not end with a file's name", "64 lower hex digits", "32 lower hex digits",
        "-1 is out of range", "nothing", "$system(tmp)", "leads out of the directory", "two inputs arrive as 'twice'", "the key 'url' is missing",
        "no key 'sum'", "is no sha256", "a URL that ends with /", "'https://host' names no file", "1/0",
    ):  # fmt: skip
        assert words in said, words
    assert "secret" not in said


@pytest.mark.parametrize("how", ["local", "expand"])
def test_other_commands_know_them_too(
    steering: Path, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "local":
        monkeypatch.chdir(tmp_path)
        assert main(["local", str(steering), "--job", "2"]) == 0
        assert (tmp_path / "icp-local" / "away" / "000002" / "make" / "out.i3").read_bytes() == GCD + EVENTS[2]
        # a try is not the dataset: what that stores there stays as it is
        assert "/out/2.i3" not in web.files and not (tmp_path / "copies").exists()
    else:
        assert main(["expand", str(steering), "--job", "2"]) == 0
        said = capsys.readouterr().out
        assert f"in.i3  <- {web.url('/runs/run2.i3')}" in said and f"-> {web.url('/out/2.i3')}" in said
