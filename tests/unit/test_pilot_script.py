"""The pilot's batch body: as recorded, and under real shells with what sites have and have not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from icp.backends.pilot_script import Body, pilot_body
from icp.errors import BadInput

GOLDEN = Path(__file__).parents[1] / "golden" / "slurm"
BODY = Body("/data/icp/spool/0a1b2c3d", "/data/icp/programs/pilot-0123456789abcdef.pyz", "0123456789abcdef")
FULL = Body(
    BODY.spool, BODY.program, BODY.pilot, python="/opt/py/bin/python3.11", modules=("python/3.11", "cuda"),
    setup=("ulimit -c 0", "export DATA='/data/my files'"), env={"A": "it's $HOME", "B": ""}, scratch="/scratch/$USER",
)  # fmt: skip


@pytest.mark.parametrize(("name", "body"), [("pilot-least.sh", BODY), ("pilot.sh", FULL)])
def test_as_recorded(name: str, body: Body) -> None:
    assert pilot_body(body) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("change", [
    {"env": {"A B": "x"}}, {"env": {"A=$(id)": "x"}}, {"modules": ("a; id",)},
    {"scratch": "/a b"}, {"scratch": '/a"; id'}, {"scratch": "a"},
])  # fmt: skip
def test_values_that_are_no_values_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        pilot_body(Body(BODY.spool, BODY.program, BODY.pilot, **change))  # type: ignore[arg-type]


@pytest.fixture(params=["dash", "bash", "ksh", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    path = shutil.which(request.param)
    if path is None:
        pytest.skip(f"no {request.param} here")
    return [path, "sh"] if request.param == "busybox" else [path]


def run(shell: list[str], tmp_path: Path, body: Body, **environment: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "pilot.sh"
    script.write_text(pilot_body(body))
    return subprocess.run(
        [*shell, str(script)], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "USER": "alice", **environment},
    )  # fmt: skip


def program(tmp_path: Path) -> Path:
    """A stand-in that prints what it is called with."""
    path = tmp_path / "it's a pilot.pyz"
    path.write_text("import os, sys\nprint(sys.argv[1:], os.environ.get('TMPDIR'), os.environ.get('A'))\n")
    return path


def test_runs_the_program_with_a_python_and_says_which(shell: list[str], tmp_path: Path) -> None:
    done = run(shell, tmp_path, Body("/s p", str(program(tmp_path)), "0" * 16, python=sys.executable, env={"A": "it's $x"}))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("pilot: node 0 on ")
    assert first.endswith(f"python {sys.executable}")
    assert second == f"{['run', '--spool', '/s p', '--pilot', '0' * 16, '--node-index', '0']!r} None it's $x"


@pytest.mark.parametrize("name", ["SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"])
def test_node_index_comes_from_what_started_the_copies(name: str, tmp_path: Path) -> None:
    done = run(["/bin/sh"], tmp_path, Body("/s", str(program(tmp_path)), "0" * 16, python=sys.executable), **{name: "3"})
    assert "'--node-index', '3'" in done.stdout


def test_stubs_and_old_pythons_are_passed_over(shell: list[str], tmp_path: Path) -> None:
    for name, text in (("python3", "exit 0"), ("python3.9", "echo False"), ("python3.8", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.7").symlink_to(sys.executable)
    done = run(shell, tmp_path, Body("/s", str(program(tmp_path)), "0" * 16, python=str(tmp_path / "python3")), PATH=f"{tmp_path}:/bin")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "python3 ") not in done.stdout


def test_no_python_is_one_sentence_and_127(tmp_path: Path) -> None:
    text = pilot_body(BODY).replace("/usr/", "/nowhere/").replace("/opt/", "/nowhere/")
    (tmp_path / "hostname").write_text("#!/bin/sh\necho w1\n")
    (tmp_path / "hostname").chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path), "HOME": "/nowhere"})
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "pilot: no Python 3.6 or newer on w1: set site.NAME.python or site.NAME.modules\n"


def bare(tmp_path: Path, body: Body, shell: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it where no Python is to be found."""
    text = pilot_body(body).replace("/usr/", "/nowhere/").replace("/opt/", "/nowhere/").replace("/nowhere/local/bin:/nowhere/bin:/bin", "")
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("hostname", "uname", "sha256sum", "cut", "mkdir", "tar", "gzip", "mv", "rm", "date", "id"):
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return subprocess.run([*shell, "-c", text], capture_output=True, text=True, check=False, timeout=60, env={"PATH": str(tools), "HOME": "/nowhere"})


def shipped(spool: Path, text: str) -> str:
    """An archive in the spool's cache with a program bin/python3 in a folder; its sha256."""
    folder = spool / "made" / "python" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python3").write_text(text)
    (folder / "python3").chmod(0o755)
    (spool / "cache").mkdir(exist_ok=True)
    with tarfile.open(spool / "a.tar.gz", "w:gz") as archive:
        archive.add(spool / "made", ".")
    sha256 = hashlib.sha256((spool / "a.tar.gz").read_bytes()).hexdigest()
    shutil.copy(spool / "a.tar.gz", spool / "cache" / sha256)
    return sha256


def test_a_shipped_python_is_unpacked_once_and_runs_the_program(shell: list[str], tmp_path: Path) -> None:
    spool = tmp_path / "it's a spool"
    spool.mkdir()
    sha256 = shipped(spool, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    body = Body(str(spool), str(program(tmp_path)), "0" * 16, pythons=(("sparc", "1" * 64), (os.uname().machine, sha256)))
    for _ in range(2):
        done = bare(tmp_path, body, shell)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].endswith(f"python {spool}/cache/python-{sha256}/python/bin/python3")
        (spool / "cache" / sha256).unlink(missing_ok=True)
    assert [one.name for one in (spool / "cache").iterdir()] == [f"python-{sha256}"]


def test_a_shipped_python_with_other_bytes_or_for_another_machine_is_said(shell: list[str], tmp_path: Path) -> None:
    sha256 = shipped(tmp_path, "#!/bin/sh\n")
    with (tmp_path / "cache" / sha256).open("ab") as file:
        file.write(b"x")
    machine = os.uname().machine
    done = bare(tmp_path, Body(str(tmp_path), "/p", "0" * 16, pythons=((machine, sha256),)), shell)
    assert done.returncode == 127
    assert f"pilot: the Python in {tmp_path}/cache/{sha256} has sha256 " in done.stderr
    assert f", expected {sha256}\n" in done.stderr
    done = bare(tmp_path, Body(str(tmp_path), "/p", "0" * 16, pythons=(("sparc", sha256),)), shell)
    assert done.returncode == 127
    assert f"pilot: no Python was shipped for {machine}\n" in done.stderr
    assert sorted(os.listdir(tmp_path / "cache")) == [sha256]


def test_scratch_that_cannot_be_written_is_told_and_not_used(shell: list[str], tmp_path: Path) -> None:
    good = Body("/s", str(program(tmp_path)), "0" * 16, python=sys.executable, scratch="$HOME/scratch")
    assert f"{tmp_path}/scratch" in run(shell, tmp_path, good).stdout
    bad = Body("/s", good.program, "0" * 16, python=sys.executable, scratch="/proc/none/$USER")
    done = run(shell, tmp_path, bad)
    assert done.returncode == 0
    assert "scratch /proc/none/alice cannot be written" in done.stderr


def test_setup_may_fail_and_the_pilot_goes_on(shell: list[str], tmp_path: Path) -> None:
    body = Body("/s", str(program(tmp_path)), "0" * 16, python=sys.executable, setup=("export A=set", "false"), modules=("gcc",))
    done = run(shell, tmp_path, body)
    assert done.returncode == 0
    assert "setup failed" in done.stderr
    assert "module load gcc failed" in done.stderr
    assert done.stdout.rstrip().endswith("set")


def test_signals_reach_the_program_itself(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text("import os; print(os.getpid())")
    script = tmp_path / "pilot.sh"
    script.write_text(pilot_body(Body("/s", str(path), "0" * 16, python=sys.executable)))
    process = subprocess.Popen(["/bin/sh", str(script)], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=30)
    assert out.splitlines()[-1] == str(process.pid)
