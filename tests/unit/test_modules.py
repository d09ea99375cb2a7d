"""Python modules: the base class, what is read of a file without running it, the predefined ones, and where others come from."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from icp.dsl.declarations import NotPython, read
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.modules import CannotFetch, predefined_class
from icp.dsl.steering import load
from icp.engine.modules import Fetcher
from icp.engine.submission import prepare
from icp.errors import BadInput
from icp.model.definition import Origin, steering_from_json, to_json
from icp.pilot.module import Module, Parameter, Stats, WrongParameter, parameters
from icp.pilot.modules import NAMES
from icp.pilot.stage import Problem, statistics

TEXT = '''
from icp.pilot.module import Module, Parameter

raise RuntimeError("this file is never run here")


class Level2(Module):
    """Keeps events."""

    infile = Parameter(str, help="events to read")
    zenith = Parameter(float, 85.0, "largest zenith", choices=[80.0, 85.0])
    names = Parameter((str, list), [])
'''


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the base class


class Cut(Module):
    infile = Parameter(str)
    n = Parameter(int, 1)
    cuts = Parameter(dict, {"a": []})
    flag = Parameter(bool, False)
    any = Parameter(None, None)


def test_parameters_have_their_values_and_each_instance_its_own() -> None:
    one, two = Cut(infile="x", n="3", flag="True", any=[1]), Cut(infile="y")
    assert (one.infile, one.n, one.flag, one.any) == ("x", 3, True, [1])
    assert (two.n, two.flag, two.any) == (1, False, None)
    one.cuts["a"].append(1)
    assert two.cuts == {"a": []} == Cut.cuts.default
    assert list(parameters(Cut)) == ["infile", "n", "cuts", "flag", "any"]


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, "needs the parameter 'infile'"), ({"infile": "x", "nn": 1}, "no parameter 'nn'"), ({"infile": "x", "n": 1.5}, "expected a whole number"),
     ({"infile": "x", "n": True}, "expected a whole number"), ({"infile": ["x"]}, "expected a text")],
)  # fmt: skip
def test_what_is_not_declared_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongParameter, match=said):
        Cut(**given)


def test_statistics_add_up_over_modules_whatever_form_they_have(work: Path) -> None:
    for _ in range(2):
        stats = Stats()
        stats.increment("events", 5)
        stats["energy"] = 2.5
        stats.update({"last": 1})
        stats.save("lines")
    assert statistics("lines") == ({"events": 10, "energy": 2.5, "last": 1}, None)
    Path("json").write_text('{"events": 1, "other": 7}')
    stats.save("json")
    assert statistics("json") == ({"events": 6, "other": 7, "energy": 2.5, "last": 1}, None)
    for name, value in (("a b", 1), ("", 1), ("a", float("nan")), ("a", "3"), ("a", True)):
        with pytest.raises((ValueError, TypeError)):
            stats[name] = value


def test_a_file_with_a_module_runs_by_hand(work: Path) -> None:
    Path("one.py").write_text(
        "from icp.pilot.module import Module, Parameter\n\n\nclass One(Module):\n    n = Parameter(int, 1)\n\n"
        "    def execute(self, stats):\n        stats['n'] = self.n\n\n\nif __name__ == '__main__':\n    raise SystemExit(One.main())\n"
    )
    done = subprocess.run([sys.executable, "one.py", "n=4"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "n 4\n"), done.stderr
    done = subprocess.run([sys.executable, "one.py", "m=4"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "One has no parameter 'm'; it has n\n")


# --- what is read of a file


def test_a_file_is_read_and_never_run() -> None:
    cls = read(TEXT)["Level2"]
    assert (cls.module, cls.open, cls.help) == (True, False, "Keeps events.")
    assert [(one.name, one.types, one.required, one.default) for one in cls.parameters.values()] == [
        ("infile", ("str",), True, ""), ("zenith", ("float",), False, "85.0"), ("names", ("str", "list"), False, "[]"),
    ]  # fmt: skip
    assert cls.parameters["zenith"].choices == (80.0, 85.0)


def test_parameters_come_from_base_classes_also_in_files_beside_it() -> None:
    base = "import icp.pilot.module as m\n\nclass Base(m.Module):\n    a = m.Parameter(int)\n    b = m.Parameter(int)\n"
    text = "from common import Base\nfrom elsewhere import Other\n\nclass One(Base):\n    b = None\n\nclass Two(Other):\n    pass\n\nclass No:\n    pass\n"
    found = read(text, {"common": base}.get)
    assert (list(found["One"].parameters), found["One"].module, found["One"].open) == (["a"], True, False)
    assert (found["Two"].module, found["Two"].open) == (False, True)
    assert (found["No"].module, found["No"].open) == (False, False)
    with pytest.raises(NotPython, match="line 1"):
        read("class (:")


def test_predefined_modules_declare_what_they_are_made_of() -> None:
    for name in NAMES:
        cls = predefined_class(name)
        real = parameters(getattr(importlib.import_module(f"icp.pilot.modules.{name}"), cls.name))
        assert {key: (one.types, one.required, one.help) for key, one in real.items()} == {
            key: (one.types, one.required, one.help) for key, one in cls.parameters.items()
        }
        assert cls.help and all(one.help for one in real.values())


# --- the predefined ones


def execute(name: str, **given: Any) -> Stats:
    module = importlib.import_module(f"icp.pilot.modules.{name}")
    stats = Stats()
    assert getattr(module, predefined_class(name).name)(**given).execute(stats) is None
    return stats


def test_checksums_are_those_of_sha256sum_and_are_compared(work: Path) -> None:
    (work / "a b").write_bytes(b"data")
    for kind in ("sha256", "md5"):
        execute("checksum", files=["a *"], out="sums", kind=kind)
        assert subprocess.run([kind + "sum", "--check", "--quiet", "sums"], check=False).returncode == 0
        assert execute("checksum", compare="sums", kind=kind)["checksum.files"] == 1
    (work / "a b").write_bytes(b"datA")
    with pytest.raises(ValueError, match="a b has md5"):
        execute("checksum", compare="sums", kind="md5")
    with pytest.raises(FileNotFoundError, match="nothing is named none"):
        execute("checksum", files=["none"])


@pytest.mark.parametrize("end", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_what_is_packed_is_unpacked(work: Path, end: str) -> None:
    (work / "d").mkdir()
    (work / "d" / "x").write_text("x")
    (work / "y").write_text("y")
    execute("tarball", archive="a" + end, files=["d", "y"])
    execute("tarball", archive="a" + end, into="new")
    assert (work / "new" / "d" / "x").read_text() == "x" and (work / "new" / "y").read_text() == "y"


@pytest.mark.parametrize(("name", "link"), [("../x", ""), ("/tmp/icp-never", ""), ("x", "../../y"), ("x", "/etc/passwd")])
def test_an_archive_that_leads_outside_is_refused_whole(work: Path, name: str, link: str) -> None:
    with tarfile.open("bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        tar.addfile(info)
    with pytest.raises(ValueError, match="outside of the folder"):
        execute("tarball", archive="bad.tar", into="new")
    assert list((work / "new").iterdir()) == []


def test_files_are_merged_in_each_form(work: Path) -> None:
    (work / "1.csv").write_text("a,b\n1,2")
    (work / "2.csv").write_text("a,b\r\n3,4\r\n")
    execute("merge", files=["*.csv"], out="all", format="csv")
    assert (work / "all").read_bytes() == b"a,b\n1,2\n3,4\r\n"
    (work / "1.json").write_text('{"n": 1, "counts": [1, 2], "names": ["x"], "bins": "log"}')
    (work / "2.json").write_text('{"n": 2, "counts": [3, 4], "names": ["y"], "bins": "log", "new": 1}')
    (work / "inputs.list").write_text("1.json\n2.json\n")
    execute("merge", names="inputs.list", out="sum", format="json")
    assert json.loads((work / "sum").read_text()) == {"n": 3, "counts": [4, 6], "names": ["x", "y"], "bins": "log", "new": 1}
    execute("merge", names="inputs.list", out="bytes")
    assert (work / "bytes").read_bytes() == (work / "1.json").read_bytes() + (work / "2.json").read_bytes()
    (work / "2.json").write_text('{"bins": "linear"}')
    with pytest.raises(ValueError, match=r'2.json: bins: "linear" cannot be added to "log"'):
        execute("merge", names="inputs.list", out="sum", format="json")
    with pytest.raises(ValueError, match="nothing to merge"):
        execute("merge", out="x")


def test_cleanup_takes_away_what_is_named_and_nothing_outside(work: Path) -> None:
    (work / "task" / "d").mkdir(parents=True)
    os.chdir(work / "task")
    for name in ("d/x", "y.tmp", "z"):
        Path(name).write_text("")
    (work / "kept").write_text("")
    assert execute("cleanup", files=["d", "*.tmp", "none"])["cleanup.removed"] == 2
    assert os.listdir() == ["z"]
    for outside in ("../kept", str(work / "kept")):
        with pytest.raises(ValueError, match="not below the task's directory"):
            execute("cleanup", files=[outside])
    assert (work / "kept").exists()


def test_a_transfer_arrives_whole_or_not_at_all(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icp.pilot.part.Limits.pauses", (0.0,))
    (work / "a file").write_bytes(b"data")
    sha256 = hashlib.sha256(b"data").hexdigest()
    stats = execute("transfer", source=(work / "a file").as_uri(), dest="new/", sha256=sha256.upper(), md5=hashlib.md5(b"data").hexdigest())
    assert (work / "new" / "a file").read_bytes() == b"data" and stats["transfer.bytes"] == 4
    with pytest.raises(Problem, match=sha256):
        execute("transfer", source="a file", dest="other", sha256="0" * 64)
    assert sorted(os.listdir()) == ["a file", "new"]
    with pytest.raises(FileExistsError):
        execute("transfer", source="a file", dest="new", overwrite=False)
    with pytest.raises(Problem, match="gsiftp"):
        execute("transfer", source="gsiftp://host/x", dest="x")


# --- in a steering file

STEERING = """
name = "mods"
jobs.scan = { e = [1, 10], seed = 2 }
[task.a]
  [[task.a.tray]]
  iterations = 2
    [[task.a.tray.module]]
    python = "level2.py"
    params = { infile = "$system(tmp)/$args(iter)", zenith = "$eval(70 + $args(e))", names = ["$args(e)", { x = "$args(e)" }] }
"""


def test_values_keep_their_types_and_marks_their_places(work: Path) -> None:
    (work / "level2.py").write_text(TEXT.replace("zenith = Parameter(float, 85.0, \"largest zenith\", choices=[80.0, 85.0])", "zenith = Parameter(float, 1.0)"))
    (work / "steering.toml").write_text(STEERING)
    steering = load(work / "steering.toml")
    assert steering.files == ("level2.py",)
    again = steering_from_json(json.loads(json.dumps(to_json(steering))))
    steps = Renderer(again, again.tasks[0]).render(JobContext("mods", 0, 2, 4, again.jobs.row(2)), SiteContext("s", {}, {})).steps
    assert steps[1]["python"] == {
        "file": "level2.py", "class": "Level2", "params": {"infile": None, "zenith": 80, "names": [10, {"x": 10}]},
        "marks": [[["infile"], [{"node": "tmp"}, "/1"]]],
    }  # fmt: skip


def test_a_value_that_does_not_fit_for_one_of_the_jobs_is_a_mistake(work: Path) -> None:
    (work / "level2.py").write_text(TEXT)
    (work / "steering.toml").write_text(STEERING)
    with pytest.raises(BadInput) as caught:
        load(work / "steering.toml")
    assert any("params.zenith: 80.0 does not fit" in one or "expected one of 80.0, 85.0" in one for one in caught.value.mistakes)


def test_what_a_module_imports_from_beside_itself_must_be_shipped(work: Path) -> None:
    (work / "mods").mkdir()
    (work / "mods" / "level2.py").write_text("import json\nfrom common.cuts import Cut\nimport physics\n" + TEXT)
    (work / "mods" / "physics.py").write_text("")
    (work / "mods" / "common").mkdir()
    text = '[task.a]\n[[task.a.tray]]\n[[task.a.tray.module]]\npython = "mods/level2.py"\nparams = { infile = "x" }\n'
    (work / "steering.toml").write_text(text)
    told = sorted(one.partition(": ")[2] for one in load(work / "steering.toml").warnings)
    assert told == [
        f"task.a: mods/level2.py imports {one}, which is not shipped; add the line: files = [\"{one}\"]" for one in ("mods/common", "mods/physics.py")
    ]
    (work / "steering.toml").write_text('files = ["mods"]\n' + text)
    assert load(work / "steering.toml").warnings == ()


def test_the_example_of_the_page_runs(work: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "showers"
    page = (example.parents[1] / "docs" / "modules.md").read_text()
    assert (example / "steering.toml").read_text() in page
    assert (example / "showers.py").read_text().split("class Cut")[0].rstrip() in page
    for name in ("steering.toml", "showers.py"):
        (work / name).write_text((example / name).read_text())
    done = subprocess.run([sys.executable, "-m", "icp", "local", "steering.toml", "--job", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = work / "icp-local" / "showers" / "000003" / "showers"
    assert sum(json.loads((folder / "hist.json").read_text())["counts"]) > 0
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.txt", "hist.json", "showers.py"]


# --- from elsewhere


def git(*words: str, folder: Path) -> str:
    words = ("-c", "user.name=a", "-c", "user.email=a@example.org", *words)
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a repo"
    (folder / "mods").mkdir(parents=True)
    (folder / "mods" / "level2.py").write_text(TEXT)
    git("init", "--quiet", "--initial-branch=main", folder=folder)
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--message=one", folder=folder)
    git("tag", "--annotate", "v1", "--message=one", folder=folder)
    (folder / "mods" / "level2.py").write_text(TEXT.replace("infile", "source"))
    git("commit", "--quiet", "--all", "--message=two", folder=folder)
    return folder


def url(repository: Path) -> str:
    return "git+" + repository.as_uri()


@pytest.mark.parametrize("rev", ["v1", "commit", "short"])
def test_a_repository_is_resolved_to_a_commit_and_fetched_once(repository: Path, tmp_path: Path, rev: str) -> None:
    commit = git("rev-parse", "v1^{commit}", folder=repository)
    rev = {"commit": commit, "short": commit[:9]}.get(rev, rev)
    found = Fetcher(tmp_path / "cache")(Origin(url(repository), rev), "mods/level2.py")
    assert (found.text, found.origin.commit, found.origin.rev) == (TEXT, commit, rev)
    assert found.origin.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert found.python == f".icp-modules/{commit[:16]}/mods/level2.py"
    repository.rename(tmp_path / "gone")
    again = Fetcher(tmp_path / "cache")
    assert again(Origin(url(repository), commit), "mods/level2.py").text == TEXT
    assert again.shipped == {f".icp-modules/{commit[:16]}": tmp_path / "cache" / "modules" / commit}


@pytest.mark.parametrize(
    ("rev", "python", "said"),
    [("v2", "mods/level2.py", "no branch, tag or commit v2"), ("--upload-pack=x", "mods/level2.py", "and '--upload-pack=x' is none"),
     ("", "mods/level2.py", "a branch, tag or commit is needed"), ("main", "", "python = \"PATH/IN/IT.py\" is needed"),
     ("main", "../x.py", "is needed"), ("main", "none.py", "has no none.py at ")],
)  # fmt: skip
def test_what_a_repository_does_not_have_is_said(repository: Path, tmp_path: Path, rev: str, python: str, said: str) -> None:
    with pytest.raises(CannotFetch) as caught:
        Fetcher(tmp_path / "cache")(Origin(url(repository), rev), python)
    assert said in str(caught.value)


def test_fetched_modules_are_checked_shipped_and_recorded(repository: Path, tmp_path: Path) -> None:
    def write(params: str, rev: str) -> Path:
        path = tmp_path / "steering.toml"
        path.write_text(
            f'[task.a]\n[[task.a.tray]]\n[[task.a.tray.module]]\nurl = "{url(repository)}"\nrev = "{rev}"\npython = "mods/level2.py"\nparams = {params}\n'
        )
        return path

    with pytest.raises(BadInput) as caught:
        prepare(write('{ infile = "x" }', "main"))
    assert "steering.toml:7:12: task.a.tray[0].module[0].params.infile: Level2 has no parameter 'infile'" in caught.value.mistakes[-1]
    prepared = prepare(write('{ infile = "x" }', "v1"))
    assert prepared.pack is not None
    (module,) = prepared.steering.tasks[0].trays[0].modules
    assert module.origin is not None and module.cls == "Level2"
    import io

    with tarfile.open(fileobj=io.BytesIO(prepared.pack[1])) as tar:
        member = tar.extractfile(str(module.python))
        assert member is not None and hashlib.sha256(member.read()).hexdigest() == module.origin.sha256


def test_a_single_file_may_be_pinned(tmp_path: Path) -> None:
    (tmp_path / "level2.py").write_text(TEXT)
    place, sha256 = (tmp_path / "level2.py").as_uri(), hashlib.sha256(TEXT.encode()).hexdigest()
    fetch = Fetcher(tmp_path / "cache")
    assert fetch(Origin(place), "").python == f".icp-modules/{sha256[:16]}/level2.py"
    (tmp_path / "level2.py").write_text("changed")
    assert fetch(Origin(place, "sha256:" + sha256), "").text == TEXT
    with pytest.raises(CannotFetch, match="expected 0000"):
        fetch(Origin(place, "sha256:" + "0" * 64), "")
    for bad in ("http://example.org/x.py", "ftp://example.org/x.py", "https://example.org/x", "/x.py", "git+ssh://example.org/x"):
        with pytest.raises(CannotFetch):
            fetch(Origin(bad, "main"), "x.py")
