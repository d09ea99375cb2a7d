"""Where files came from, exports, verification, and jobs done again: on datasets that really ran, and on histories made by hand."""

import csv
import hashlib
import json
import zipfile

import pytest

from icp.ledger import provenance
from tests.ledger.build import task

pytestmark = pytest.mark.long

STEERING = """\
name = "chain"
seed = 42
files = ["tool.sh"]
jobs.scan = { energy = [1, 10], run = 2 }

[task.make]
command = "sh tool.sh $args(seed) $args(energy) > raw.txt"
outputs = ["raw.txt"]

[task.use]
inputs = ["make:raw.txt"]
command = "tr a-z A-Z < raw.txt > 'used file.txt'; echo size 3 >> $ICP_STATS"
outputs = ["used file.txt"]

[final.all]
inputs = ["use:used file.txt[*]"]
command = "cat inputs/use/*/* > all.txt"
outputs = ["all.txt"]
"""


@pytest.fixture
def ran(icp, tmp_path):
    """A dataset of four jobs, done; its directory."""
    (tmp_path / "chain.toml").write_text(STEERING)
    (tmp_path / "tool.sh").write_text('echo "seed $1 energy $2"\n')
    assert icp("submit", "chain.toml").rc == 0
    done = icp("run", "--until-done", timeout=100)
    assert done.rc == 0, done.err
    return tmp_path


def test_a_file_is_followed_to_the_first_input(icp, ran):
    final = ran / "outputs/chain/final/000000/all.txt"
    moved = ran / "elsewhere.txt"
    moved.write_bytes(final.read_bytes())
    digest = hashlib.sha256(final.read_bytes()).hexdigest()
    for thing in (final, moved, digest, digest[:10]):
        said = icp("provenance", thing, "--json")
        assert said.rc == 0, said.err
        told = json.loads(said.out)
        assert [(one["task"], one["job"]) for one in told["attempts"]] == [
            ("all", None), *[("use", job) for job in range(4)], *[("make", job) for job in range(4)]
        ]  # fmt: skip
        assert told["left_out"] == 0
    made = {one["attempt"]: one for one in told["attempts"]}
    outputs = {(one["attempt"], file["sha256"]) for one in made.values() for file in one["outputs"]}
    for one in made.values():
        assert one["seed"] > 0 and one["site"] == "local" and one["commands"]
        for read in one["inputs"]:
            assert (read["attempt"], read["sha256"]) in outputs, "each input is what another attempt made"
    first = next(one for one in made.values() if (one["task"], one["job"]) == ("make", 2))
    assert first["arguments"] == {"energy": 10, "run": 0} and first["inputs"] == []
    assert f"sh tool.sh {first['seed']} 10 >" in first["commands"][0][-1]
    assert first["outputs"][0]["sha256"] == hashlib.sha256(f"seed {first['seed']} energy 10\n".encode()).hexdigest()
    text = icp("provenance", final).out
    assert "made by all in job final of dataset chain" in text and "from make in job 3" in text
    assert icp("provenance", final, "--steering").out == STEERING
    assert "4 attempts behind these are left out" in icp("provenance", final, "--limit", 1 + 3).out


def test_what_is_not_what_it_was_is_said(icp, ran):
    path = ran / "outputs/chain/000001/used file.txt"
    good = path.read_bytes()
    assert icp("verify", "chain").rc == 0
    path.write_bytes(good.replace(b"S", b"Z"))
    said = icp("provenance", path)
    assert said.rc == 1 and "is not the file that was recorded here" in said.err and "made by use in job 1" in said.out
    done = icp("verify", "chain")
    assert done.rc == 1 and "sha256" in done.out and "icp reset chain --job 1 --task use" in done.err
    assert icp("verify", "chain", "--jobs", "2-3").rc == 0
    path.unlink()
    told = icp("verify", "chain", "--json")
    assert told.rc == 1
    assert [(one["file"]["job"], one["why"]) for one in json.loads(told.out)["wrong"]] == [(1, "it is gone")]
    path.write_bytes(good)
    assert icp("verify", "chain").rc == 0


def test_unknown_things_are_not_found(icp, ran):
    (ran / "own.txt").write_text("mine")
    assert icp("provenance", "own.txt").rc == 3
    assert icp("provenance", "0" * 64).rc == 3
    assert icp("provenance", "no-such-file").rc == 2
    assert icp("provenance", ran).rc == 3
    pack = icp("provenance", ran / "outputs/chain/final/000000/all.txt", "--json")
    shipped = json.loads(pack.out)["attempts"][0]["files"]
    assert "dataset chain shipped" in icp("provenance", shipped).err


def test_a_job_of_an_export_gives_the_same_bytes_at_another_ledger(icp, ran, tmp_path_factory):
    recorded = {one["name"]: one["sha256"] for one in json.loads(icp("outputs", "chain", "--job", 2, "--every", "--json").out)}
    assert icp("export", "chain", "-o", "chain.zip").rc == 0
    there = tmp_path_factory.mktemp("there")
    (there / "chain.zip").write_bytes((ran / "chain.zip").read_bytes())
    (there / "home").mkdir()
    other = {"ICP_HOME": str(there / "home")}
    (ran / "tool.sh").write_text("echo another tool\n")  # what was shipped is in the export
    done = icp("rerun", "chain.zip", "--job", 2, "--local", "--json", cwd=there, **other)
    assert done.rc == 0, done.err
    told = json.loads(done.out)
    assert told["same"] is True
    assert {one["name"]: one["now"] for one in told["files"]} == recorded
    made = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (there / "icp-rerun").rglob("*.txt")}
    assert made["used file.txt"] == recorded["used file.txt"]
    # recorded at another ledger, with the seed that the export names, it gives the same bytes too
    with zipfile.ZipFile(there / "chain.zip") as archive:
        archive.extractall(there / "crate")
    seed = json.loads((there / "crate/definition.json").read_text())["seed"]
    assert icp("submit", "crate/steering/chain.toml", "--seed", seed, cwd=there, **other).rc == 0
    assert icp("run", "--until-done", cwd=there, timeout=100, **other).rc == 0
    again = icp("outputs", "chain", "--job", 2, "--every", "--json", cwd=there, **other)
    assert {one["name"]: one["sha256"] for one in json.loads(again.out)} == recorded


def test_a_rerun_says_what_differs(icp, tmp_path):
    command = "date +%s.%N > now.txt; echo same > fixed.txt"
    (tmp_path / "clock.toml").write_text(f'name = "clock"\njobs = 1\ncommand = "{command}"\noutputs = ["now.txt", "fixed.txt"]\n')
    assert icp("submit", "clock.toml").rc == 0
    assert icp("run", "--until-done", timeout=100).rc == 0
    done = icp("rerun", "clock", "--job", 0, "--local", "--json")
    assert done.rc == 1 and "1 output of job 0 is not the bytes that were recorded" in done.err
    assert {one["name"]: one["word"] for one in json.loads(done.out)["files"]} == {"now.txt": "differs", "fixed.txt": "same"}
    assert icp("rerun", "clock", "--job", 0).rc == 2
    assert icp("rerun", "clock", "--job", 5, "--local").rc == 3


def test_a_final_task_is_done_again_over_what_is_home(icp, ran):
    done = icp("rerun", "chain", "--job", "final", "--task", "all", "--local")
    assert done.rc == 0, done.err
    (ran / "outputs/chain/000001/used file.txt").unlink()
    assert icp("rerun", "chain", "--job", "final", "--task", "all", "--local").rc == 4


def test_an_export_is_an_ro_crate(icp, ran):
    assert icp("export", "chain", "-o", "crate", "--with-files", "--license", "https://creativecommons.org/licenses/by/4.0/").rc == 0
    folder = ran / "crate"
    said = json.loads((folder / "ro-crate-metadata.json").read_text())
    assert said["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    graph = {one["@id"]: one for one in said["@graph"]}
    assert len(graph) == len(said["@graph"]), "each entity is there once"
    head = graph["ro-crate-metadata.json"]
    assert head["about"] == {"@id": "./"} and head["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    root = graph["./"]
    assert all(root[key] for key in ("name", "description", "datePublished", "license")) and root["license"]["@id"] in graph

    def refs(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if value.keys() == {"@id"} else (one for part in value.values() for one in refs(part))
        elif isinstance(value, list):
            yield from (one for part in value for one in refs(part))

    outside = ("http://schema.org/", "https://w3id.org/ro/crate/")
    for one in said["@graph"]:
        assert all(ref in graph or ref.startswith(outside) for ref in refs({key: value for key, value in one.items() if key != "@id"})), one["@id"]
    parts = {one["@id"] for one in root["hasPart"]}
    files = {name: one for name, one in graph.items() if "File" in one["@type"]}
    assert set(files) == parts
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"ro-crate-metadata.json"}
    from urllib.parse import unquote

    inside = {unquote(name): one for name, one in files.items() if not name.startswith("arcp:")}
    assert set(inside) == on_disk
    for name, one in inside.items():
        data = (folder / name).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (hashlib.sha256(data).hexdigest(), str(len(data)))
    actions = [one for one in graph.values() if one["@type"] == "CreateAction"]
    assert len(actions) == 9 and all(one["instrument"]["@id"] in graph and one["result"] for one in actions)
    assert (folder / "outputs/000003/used file.txt").read_bytes() == (ran / "outputs/chain/000003/used file.txt").read_bytes()
    rows = list(csv.DictReader((folder / "attempts.csv").read_text().splitlines()))
    assert len(rows) == 9 and len({row["seed"] for row in rows}) == 9
    assert {row["made_by"] for row in csv.DictReader((folder / "inputs.csv").read_text().splitlines())} <= {row["attempt"] for row in rows}
    assert icp("export", "chain", "-o", "crate").rc == 2, "what is there is not written over"


def test_an_export_with_a_file_that_changed_is_refused_whole(icp, ran):
    (ran / "outputs/chain/000000/used file.txt").write_text("other")
    assert icp("export", "chain", "-o", "crate", "--with-files").rc == 1
    assert not (ran / "crate").exists() and not list(ran.glob(".crate*"))


DEFS = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))


def test_an_attempt_read_what_was_accepted_then_not_what_is_accepted_now(world):
    number = world.submit(1, *DEFS)
    agent = world.agent()
    world.release(number)
    (first,) = world.deal(number)
    world.claim(agent, first)
    world.ended(agent, first)
    (b,) = world.deal(number, task="b")
    world.claim(agent, b)
    world.ended(agent, b)
    ids = {one[0].hex(): one[1] for one in world.db.execute("SELECT key, id FROM attempt").fetchall()}

    def read(attempt):
        from icp.ledger.definitions import Definitions

        return [one.attempt for one in provenance.inputs_of(world.db, Definitions(world.db), ids[attempt.key])]

    assert read(b) == [ids[first.key]]
    # the parent is done anew, the child is not dealt yet: the old child read the old parent
    world.control(number).reset_jobs(0, 0)
    (second,) = world.deal(number, task="a")
    world.claim(agent, second)
    world.ended(agent, second)
    ids.update({one[0].hex(): one[1] for one in world.db.execute("SELECT key, id FROM attempt").fetchall()})
    assert read(b) == [ids[first.key]]
    (again,) = world.deal(number, task="b")
    world.claim(agent, again)
    world.ended(agent, again)
    ids.update({one[0].hex(): one[1] for one in world.db.execute("SELECT key, id FROM attempt").fetchall()})
    assert read(again) == [ids[second.key]] and read(b) == [ids[first.key]]
    assert not provenance.made_by(world.db, ids[b.key]).accepted and provenance.made_by(world.db, ids[again.key]).accepted
