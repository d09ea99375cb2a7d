"""Software at a real SLURM over real ssh: a copied subtree as /cvmfs, and nodes that have no Python, no disk, no way at all."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.engine.shipments import provide_software
from icp.engine.submission import prepare, submit
from icp.ledger.check import check
from tests.lab.sites import LabSite
from tests.lab.test_pilots import SMALL, Home

pytestmark = pytest.mark.lab

TASK = """\
jobs = 3
[task.a]
command = {command}
outputs = ["out"]
software = "it"
resources = {{ time = "1 min", memory = "50 MB", disk = "50 MB" }}
[software.it]
cvmfs = ["test.repo"]
shell = "/cvmfs/test.repo/env-shell v1"
{more}
"""
COMMAND = "'echo $RELEASE > out; cat /cvmfs/test.repo/data >> out; id -un >> out'"
COPY = (
    "mkdir -p tree/test.repo && cd tree/test.repo && printf '#!/bin/sh\\nRELEASE=$1; export RELEASE; shift; exec \"$@\"\\n' > env-shell && "
    "chmod 755 env-shell && echo of the repository > data && printf 'Cx\\nS42\\n--\\n' > .cvmfspublished"
)


@pytest.fixture
def home(tmp_path: Path, nsa: LabSite) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def make(more: str, pilot: str = SMALL) -> Home:
        made.append(Home(tmp_path / f"h{len(made)}", nsa, pilot, more))
        return made[-1]

    assert nsa.ssh(COPY).returncode == 0
    yield make
    for one in made:
        wrong = check(one.ledger)
        one.close()
        assert not wrong


def submitted(one: Home, more: str = "", command: str = COMMAND) -> None:
    path = one.folder / "d.toml"
    path.write_text(TASK.format(command=command, more=more))
    prepared = prepare(path, sites=one.config.sites.values())
    provide_software(one.config.places, prepared.steering, one.folder)
    submit(one.ledger, prepared, time.time())


def had(one: Home) -> str:
    return str(one.one("SELECT n.text FROM attempt a JOIN name n ON n.id = a.had WHERE a.state = 5"))


def outputs(one: Home) -> set[str]:
    return {path.read_text() for path in (one.folder / "outputs" / "d").glob("*/out")}


@pytest.mark.parametrize("way", ["bwrap", "proot"])
def test_a_copy_at_the_site_is_the_repository(home: Callable[..., Home], way: str) -> None:
    one = home(f'[site.s.software]\nways = ["mounted", "{way}"]\ntree = "/home/alice/tree"')
    submitted(one)
    one.until(one.done)
    assert outputs(one) == {"v1\nof the repository\nalice\n"}
    assert f'"way":"{way}"' in had(one)
    assert '"test.repo":"42"' in had(one)
    one.until(one.quiet)


def test_where_every_node_failed_it_goes_on_there_when_that_is_mended(home: Callable[..., Home]) -> None:
    """All nodes of this cluster have one name: pilots come and go, and none is another host."""
    one = home('[policy]\nbackoff = [0, 5]\n[site.s.software]\nways = ["mounted", "bwrap"]\ntree = "/home/alice/later"')
    assert one.lab.ssh("rm -rf later").returncode == 0
    submitted(one)
    one.until(lambda: one.one("SELECT count(*) FROM error WHERE kind = 'software'") >= 2)
    assert one.lab.ssh("cp -r tree later").returncode == 0
    one.until(one.done)
    assert outputs(one) == {"v1\nof the repository\nalice\n"}
    one.until(one.quiet)
    assert one.lab.ssh("rm -rf later").returncode == 0


MODULE = """\
import os
from icp.pilot.module import Module, Parameter

class Read(Module):
    n = Parameter(int, 1)

    def execute(self, stats):
        with open("/cvmfs/test.repo/data") as data, open("out", "w") as out:
            out.write(os.environ["RELEASE"] + "\\n" + data.read())
        stats.increment("read", self.n)
"""
WITH_MODULE = """\
name = "d"
jobs = 2
files = ["read.py"]
[task.a]
outputs = ["out"]
software = "it"
resources = { time = "1 min", memory = "50 MB", disk = "50 MB" }
[[task.a.tray]]
[[task.a.tray.module]]
python = "read.py"
class = "Read"
params = { n = 3 }
[software.it]
cvmfs = ["test.repo"]
shell = "/cvmfs/test.repo/env-shell v1"
"""


@pytest.mark.parametrize("way", ["bwrap", "proot"])
def test_a_module_is_started_through_the_way_and_its_statistics_come_back(home: Callable[..., Home], way: str) -> None:
    one = home(f'[site.s.software]\nways = ["mounted", "{way}"]\ntree = "/home/alice/tree"')
    (one.folder / "read.py").write_text(MODULE)
    (one.folder / "d.toml").write_text(WITH_MODULE)
    submit(one.ledger, prepare(one.folder / "d.toml", sites=one.config.sites.values()), time.time())
    one.until(one.done)
    assert outputs(one) == {"v1\nof the repository\n"}
    assert f'"way":"{way}"' in had(one)
    assert one.one("SELECT group_concat(DISTINCT stats) FROM attempt WHERE state = 5") == '{"read":3.0}'
    one.until(one.quiet)


def archive(folder: Path) -> tuple[Path, str]:
    """A copy of the repository as a tarball."""
    with tarfile.open(folder / "t.tar.gz", "w:gz") as made:
        for name, text, mode in (("env-shell", '#!/bin/sh\nRELEASE=$1; export RELEASE; shift; exec "$@"\n', 0o755), ("data", "of the repository\n", 0o644)):
            (folder / name).write_text(text)
            (folder / name).chmod(mode)
            made.add(folder / name, name)
    return folder / "t.tar.gz", hashlib.sha256((folder / "t.tar.gz").read_bytes()).hexdigest()


def test_a_tarball_is_shipped_once_and_is_the_repository(home: Callable[..., Home]) -> None:
    one = home("")
    path, sha256 = archive(one.folder)
    submitted(one, f'tarball = [{{ url = "{path.name}", sha256 = "{sha256}" }}, {{ platform = "linux-sparc", url = "t.tar.gz", sha256 = "{sha256}" }}]')
    one.until(one.done)
    assert outputs(one) == {"v1\nof the repository\nalice\n"}
    assert sha256 in had(one)
    # nobody reads it there any more
    one.until(lambda: not one.one("SELECT count(*) FROM cached"))
    one.until(one.quiet)


def test_where_there_is_no_way_the_reason_is_in_the_ledger(home: Callable[..., Home]) -> None:
    one = home('[site.s.software]\nways = ["mounted", "cvmfsexec"]')
    submitted(one)
    text = one.until(lambda: one.one("SELECT text FROM error WHERE kind = 'software'"))
    assert text.startswith("software it: there is no way to it on ")
    assert "(mounted: " in text
    assert "; cvmfsexec: there is no cvmfsexec" in text


@pytest.mark.parametrize(("quirk", "how"), [("tmp", "full"), ("tmp", "readonly"), ("nodisk", "on")])
def test_a_node_without_room_of_its_own_runs_it_all_the_same(home: Callable[..., Home], broken_nsa: LabSite, quirk: str, how: str) -> None:
    one = home('env.TMPDIR = "/tmp"\nscratch = "/var/tmp/nowhere"\n[site.s.software]\nways = ["bwrap", "tarball"]' if quirk == "nodisk"
               else 'env.TMPDIR = "/tmp"\n[site.s.software]\nways = ["bwrap", "tarball"]')  # fmt: skip
    path, sha256 = archive(one.folder)
    broken_nsa.quirk(quirk, how)
    try:
        assert broken_nsa.ssh("echo data > /tmp/mine; sync /tmp/mine; [ -s /tmp/mine ]").returncode != 0
        submitted(one, f'tarball = [{{ url = "{path.name}", sha256 = "{sha256}" }}]', "'echo $RELEASE > out; pwd -P >> out'")
        one.until(one.done)
        assert '"way":"bwrap"' in had(one)
        # what there was no place for is in the spool, and goes with the agent
        (found,) = {text.partition(f"/.icp/{one.folder.name}")[0] for text in outputs(one)}
        assert found == "v1\n/home/alice"
        one.until(one.quiet)
        assert one.lab.ssh(f"ls .icp/{one.folder.name}-{os.getpid()}/*/work").stdout == ""
    finally:
        broken_nsa.quirk(quirk, "off")


def python_archive(folder: Path) -> tuple[Path, str]:
    """This test's own Python, without what it does not need to start."""
    path, base = folder / "python.tar.gz", Path(sys.base_prefix)
    name = f"python3.{sys.version_info[1]}"
    left = ("test", "idlelib", "ensurepip", "site-packages", "__pycache__", "lib2to3", "tkinter", "turtledemo", "pydoc_data")

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(info.name).name in left or "/config-" in info.name else info

    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(base / "bin" / name, "python/bin/python3")
        archive.add(base / "lib" / name, f"python/lib/{name}", filter=wanted)
        for one in sorted((base / "lib").glob("libpython3*.so*")):
            archive.add(one, f"python/lib/{one.name}")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


HIDE = (
    '[ -n "$HIDDEN" ] || { HIDDEN=1; export HIDDEN; exec unshare -rm sh -c '
    "'for p in /usr/bin/python3* /usr/local/bin/python3*; do [ -L $p ] || [ ! -e $p ] || mount --bind /dev/null $p; done; exec sh $0' \"$0\"; }"
)
"""A node without a Python, as it is seen from a pilot's script: in a namespace of its own nothing of that name can run."""


def test_a_node_without_python_gets_one_shipped(home: Callable[..., Home], tmp_path: Path) -> None:
    if sys.base_prefix.startswith("/usr"):
        pytest.skip("this test's Python is the system's, which cannot be moved: none was shipped")
    path, sha256 = python_archive(tmp_path)
    one = home(f"setup = ['''{HIDE}''']\npythons = ['{os.uname().machine} {path.as_uri()} {sha256}']")
    one.submit(2, "true")
    one.until(one.done)
    said: Any = one.lab.ssh(f"cat .icp/{one.folder.name}-{os.getpid()}/*/pilots/*/out .icp/{one.folder.name}-{os.getpid()}/*/pilots/*/stdout").stdout
    assert f"cache/python-{sha256}/python/bin/python3" in said
    one.until(one.quiet)
