"""Software environments of real pilots: real bwrap and proot, and stand-ins, which say so, for what CVMFS itself would need."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilot_site import Site, attempt, shell, until

from icp.pilot import node, platforms
from icp.pilot.problem import Problem
from icp.pilot.software import Software, survey

pytestmark = pytest.mark.long

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bwrap here (Debian: bubblewrap): nothing was shown through it")
needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here: cvmfsexec was not tried")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """A scratch without blanks in its path."""
    folder = tmp_path / "plain"
    folder.mkdir()
    yield str(folder)
    assert not list(folder.glob("icp-*"))


def copy_of(repo: Path) -> Path:
    """A subtree of a repository, as one copies it."""
    (repo / "bin").mkdir(parents=True)
    program(repo / "bin" / "env-shell", 'RELEASE=$1; export RELEASE; shift; exec "$@"')
    (repo / "setup.sh").write_text('[ $# = 1 ] || return 3\nexport SET_UP="$1"\n')
    (repo / ".cvmfspublished").write_bytes(b"Cabc\nS42\nNtest.repo\n--\n\xff\n")
    return repo


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


REPO: dict[str, Any] = {"cvmfs": ["test.repo"]}
FULL: dict[str, Any] = {
    **REPO, "shell": "/cvmfs/test.repo/bin/env-shell v1", "setup": "/cvmfs/test.repo/setup.sh 'a b'", "env": {"HERE": "$ICP_TASK/x"},
}  # fmt: skip


def using(one: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    one["software"] = {"it": about}
    for step in one["steps"]:
        step["software"] = "it"
    return one


def tarball(path: Path, tree: Path) -> tuple[bytes, str]:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree, ".")
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def blob(data: bytes, sha256: str) -> bytes:
    from icp.pilot import framing

    return framing.frame("blob", {"sha256": sha256}, data)


# --- copies, through what is really there


@needs_bwrap
@pytest.mark.parametrize("way", ["bwrap", "proot"])
def test_a_copied_subtree_is_the_repository(site: Site, tmp_path: Path, way: str) -> None:
    if shutil.which(way) is None:
        pytest.skip(f"no {way} here: nothing was shown through it")
    if way == "proot" and os.access("/", os.W_OK):
        pytest.skip("proot is for those who cannot write /: tests/lab/test_software.py shows a copy through it, as another user")
    copy_of(tmp_path / "tree" / "test.repo")
    text = 'cat /cvmfs/test.repo/setup.sh >/dev/null; echo "$RELEASE,$SET_UP,$HERE,$#,$CUDA_VISIBLE_DEVICES" > out; pwd -P >> out'
    seen = using(shell(text, out=["out"]), FULL)
    seen["gpus"] = 1
    exits = using(shell("exit 3"), REPO)
    killed = using(attempt("python3", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), REPO)
    large = using(attempt("python3", "-c", "x = b'1' * 200000000\nwhile sum(range(10 ** 6)) and __import__('time').process_time() < 0.3: pass"), REPO)
    lives = using(shell("(setsid sleep 600 &) ; true"), REPO)
    need = site.intern({"any": [[["CPU", "==", True]]], "cpus": 1, "disk": 1000000, "gpus": 1, "memory": 1000000, "time": 3600})
    software = {"ways": [way], "tree": str(tmp_path / "tree")}
    pilot = site.start(site.card(seen, need=need), *map(site.card, (exits, killed, large, lives)), software=software, gpus=1)
    site.finish(pilot)
    assert site.said(pilot) == ""
    first = site.result(seen)
    assert first["r"] == "ok", first.get("err")
    said, folder = site.stored(seen, "out").decode().splitlines()[0], site.stored(seen, "out").decode().partition("\n")[2]
    assert said == "v1,a b,t/x,0,0"
    assert folder.rstrip("\n").endswith("/work")
    had = first["had"]["it"]
    assert (had["way"], had["revision"], had["platform"]) == (way, {"test.repo": "42"}, platforms.here())
    assert had["python"].startswith("3.")
    assert [site.result(one)["exit"] for one in (exits, killed, large, lives)] == [3, -signal.SIGSEGV, 0, 0], site.result(exits).get("err")
    assert site.result(large)["rss"] > 190_000_000
    assert site.result(large)["cpu"] >= 0.3
    (found,) = [one for one in site.of("software") if one["had"].get("python") and "RELEASE" not in one][:1]
    assert found["vain"] == []
    assert len(site.of("software")) == 2  # Two environments, each found once for the agent.
    site.assert_clean()


@needs_bwrap
def test_the_way_is_the_first_that_works_and_the_others_are_told_with_the_reason(here: Site, tmp_path: Path) -> None:
    copy_of(tmp_path / "tree" / "test.repo")
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    program(stand_ins / "ls", "exec sleep 1000  # stand-in: a mount that hangs")
    broken = program(tmp_path / "parrot_run", 'echo "cannot stat shared object: Error 20" >&2; exit 1  # stand-in: Parrot with a C library that is too new')
    data, sha256 = tarball(tmp_path / "t.tar.gz", tmp_path / "tree" / "test.repo")
    one = using(shell("cat /cvmfs/test.repo/.cvmfspublished > out", out=["out"]), {**REPO, "tarballs": [["linux-sparc", "0" * 64], ["any", sha256]]})
    begin = time.monotonic()
    pilot = here.start(
        blob(data, sha256), here.card(one), software={"patience": 1, "parrot_run": broken, "cvmfsexec": "/nowhere/cvmfsexec"},
        env={"PATH": f"{stand_ins}:{os.environ['PATH']}"},
    )  # fmt: skip
    here.finish(pilot)
    assert here.result(one)["r"] == "ok", here.result(one)
    assert here.result(one)["had"]["it"] | {"python": ""} == {
        "way": "bwrap", "revision": {"test.repo": "42"}, "platform": platforms.here(), "tarball": sha256, "python": "",
    }  # fmt: skip
    (found,) = here.of("software")
    assert [way for way, _ in found["vain"]] == ["mounted", "cvmfsexec", "parrot"]
    whys = dict(found["vain"])
    assert whys["mounted"] == "no answer within 1 s"
    assert whys["cvmfsexec"] == "there is no /nowhere/cvmfsexec"
    assert "Error 20" in whys["parrot"]
    assert time.monotonic() - begin < 900  # It did not wait for the mount.
    here.assert_clean()


def needing(site: Site, mark: str) -> str:
    """A need that says which environment it is about, as the engine writes it."""
    about = {"any": [[["CPU", "==", True]]], "cpus": 1, "disk": 1000000, "gpus": 0, "memory": 1000000, "time": 3600, "software": [mark]}
    return site.intern(about)


def test_without_any_way_it_is_one_sentence_and_the_agent_goes_on(here: Site) -> None:
    wanting, other = [using(shell("true"), REPO) for _ in range(6)], shell("true")
    need = needing(here, "repo")
    cards = [here.card(one, need=need) for one in wanting]
    pilot = here.start(*cards, here.card(other), software={"ways": ["proot", "bwrap"], "forbid": ["proot"]})
    here.finish(pilot)
    facts = [fact for fact in here.of("ended") if fact["a"] != other["a"]]
    (failed,) = [fact for fact in facts if fact["r"] == "error"]
    assert (failed["kind"], failed["exit"]) == ("software", None)
    assert failed["err"] == f"software it: there is no way to it on {os.uname().nodename} (bwrap: there is no copy)"
    # what was claimed by then goes back, with the reason; the others were left in the inbox
    assert {(fact["r"], fact["err"]) for fact in facts if fact is not failed} <= {("returned", failed["err"])}
    assert len(facts) <= 4 < len(wanting)
    assert here.result(other)["r"] == "ok"
    assert len(here.of("software")) == 1


def test_an_agent_without_a_way_leaves_the_cards_to_one_that_has_it(here: Site, tmp_path: Path) -> None:
    """A setup that one node has and the other has not: what tells them apart is a variable of the agent."""
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "setup.sh").write_text("export RELEASE=1\n")
    need = needing(here, "setup")
    about = {"setup": "$TEST_NODE/setup.sh"}
    tasks = [using(shell('sleep 0.2; [ "$RELEASE" = 1 ]'), about) for _ in range(12)]
    bad = here.start(*(here.card(one, need=need) for one in tasks), env={"TEST_NODE": str(tmp_path / "bad")}, idle=60, cpus=1)
    fact = here.wait_fact("ended", r="error")
    assert fact["kind"] == "software"
    good = here.start(env={"TEST_NODE": str(tmp_path / "good")}, idle=3, cpus=1)
    until(lambda: here.tick() and len(here.of("ended")) == len(tasks), "the end of all")
    ends = here.of("ended")
    assert sum(one["r"] == "ok" for one in ends) >= len(tasks) - 3  # the bad one tries again now and then
    assert all(one["kind"] == "software" for one in ends if one["r"] == "error")
    from icp.pilot import framing

    here.order(framing.frame("drain", {"pilot": bad}), framing.frame("drain", {"pilot": good}))
    here.finish(bad)
    here.finish(good)
    here.assert_clean()


def test_an_environment_that_cannot_be_entered_is_no_fault_of_the_task(here: Site, tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("echo 'no such release' >&2\nreturn 4\n")
    about = {"setup": str(tmp_path / "setup.sh")}
    one = using(shell("true"), about)
    here.finish(here.start(here.card(one)))
    fact = here.result(one)
    assert (fact["kind"], fact["err"]) == ("software", "software it: its environment cannot be entered (node): no such release")


def test_a_tarball_as_it_is(site: Site, tmp_path: Path) -> None:
    tree = tmp_path / "env"
    (tree / "release" / "bin").mkdir(parents=True)
    program(tree / "release" / "bin" / "simulate", 'echo "simulated with $DATA"')
    (tree / "release" / "link").symlink_to("bin/simulate")
    data, sha256 = tarball(tmp_path / "t.tar.gz", tree)
    about = {"tarballs": [["any", sha256]], "env": {"DATA": "${ICP_SOFTWARE}"}}
    one = using(shell("simulate > out; link=$ICP_SOFTWARE/link; $link >> out", out=["out"]), about)
    site.finish(site.start(blob(data, sha256), site.card(one)))
    assert site.result(one)["r"] == "ok", site.result(one)
    lines = site.stored(one, "out").decode()
    assert lines.count("simulated with") == 2
    assert f"packs/software-{sha256}/release" in lines
    assert site.result(one)["had"]["it"]["tarball"] == sha256
    site.assert_clean()


def test_a_tarball_whose_bytes_changed_is_not_used_and_asked_for_again(here: Site, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    data, sha256 = tarball(tmp_path / "t.tar.gz", tmp_path / "env")
    here.order(blob(data, sha256))
    stored = Path(here.where.blob(sha256))
    stored.chmod(0o600)
    stored.write_bytes(data[:-1] + b"?")
    found = hashlib.sha256(stored.read_bytes()).hexdigest()
    one, two = (using(shell("true"), {"tarballs": [["any", sha256]]}) for _ in range(2))
    here.finish(here.start(here.card(one)))
    fact = here.result(one)
    assert (fact["r"], fact["kind"], fact["gone"]) == ("error", "software", [["cache", sha256]])
    assert fact["err"] == f"software it: the tarball for any cannot be used: {stored} has sha256 {found}, expected {sha256}"
    here.finish(here.start(blob(data, sha256), here.card(two)))
    assert here.result(two)["r"] == "ok"


def test_agents_on_one_node_unpack_each_for_itself_and_leave_nothing(here: Site, tmp_path: Path, plain: str) -> None:
    tree = tmp_path / "env"
    (tree / "bin").mkdir(parents=True)
    program(tree / "bin" / "simulate", "pwd > /dev/null; echo $ICP_SOFTWARE; sleep 0.3")
    (tree / "large").write_bytes(os.urandom(3_000_000))
    data, sha256 = tarball(tmp_path / "t.tar.gz", tree)
    need = needing(here, "tarball")
    tasks = [using(shell("simulate > out", out=["out"]), {"tarballs": [["any", sha256]]}) for _ in range(8)]
    cards = [here.card(one, need=need) for one in tasks]
    pilots = [here.start(env={"TMPDIR": plain}, cpus=1, idle=2), here.start(blob(data, sha256), *cards, env={"TMPDIR": plain}, cpus=1, idle=2)]
    for pilot in pilots:
        here.finish(pilot)
    assert [here.result(one)["r"] for one in tasks] == ["ok"] * 8
    places = {here.stored(one, "out").decode().strip() for one in tasks}
    assert all(place.startswith(f"{plain}/icp-") and f"packs/software-{sha256}" in place for place in places)
    assert len(places) == len(here.of("software"))
    here.assert_clean()


def test_agents_of_one_node_share_what_was_shipped_on_its_disk_and_never_what_changed_there(here: Site, tmp_path: Path, near: Path) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    program(tmp_path / "env" / "bin" / "simulate", "echo right; sleep 0.3")
    (tmp_path / "env" / "README").write_text("more than one thing at its top")
    data, sha256 = tarball(tmp_path / "t.tar.gz", tmp_path / "env")
    cache = {"root": str(near), "size": 10_000_000}
    for _ in range(2):
        tasks = [using(shell("simulate > out", out=["out"]), {"tarballs": [["any", sha256]]}) for _ in range(6)]
        need = needing(here, "tarball")
        cards = [here.card(one, need=need) for one in tasks]
        pilots = [here.start(cpus=1, idle=2, cache=cache), here.start(blob(data, sha256), *cards, cpus=1, idle=2, cache=cache)]
        for pilot in pilots:
            here.finish(pilot)
        assert [here.result(one)["r"] for one in tasks] == ["ok"] * 6
        assert {here.stored(one, "out") for one in tasks} == {b"right\n"}
        # one entry, whole, whoever filled it
        assert os.listdir(near) == [sha256] and (near / sha256).read_bytes() == data
        (near / sha256).chmod(0o600)
        (near / sha256).write_bytes(data[:-1] + b"?")


def test_a_program_that_was_shipped_and_whose_bytes_changed_is_asked_for_again(here: Site, tmp_path: Path) -> None:
    data = b"#!/bin/sh\nexit 1\n"
    sha256 = hashlib.sha256(data).hexdigest()
    here.order(blob(data, sha256))
    stored = here.root / "cache" / sha256
    stored.chmod(0o600)
    stored.write_bytes(b"#!/bin/sh\n")
    one = using(shell("true"), REPO)
    here.finish(here.start(here.card(one), software={"ways": ["parrot"], "parrot_run": {"sha256": sha256}}))
    fact = here.result(one)
    assert (fact["kind"], fact["gone"]) == ("software", [["cache", sha256]])
    assert f"the parrot_run that was shipped cannot be used: {stored} has sha256" in fact["err"]


def test_none_of_the_tarballs_is_for_this_platform(here: Site) -> None:
    one = using(shell("true"), {"tarballs": [["linux-sparc-glibc2.1", "0" * 64]]})
    here.finish(here.start(here.card(one)))
    fact = here.result(one)
    assert fact["kind"] == "software"
    assert f"none of its tarballs (linux-sparc-glibc2.1) is for {platforms.here()}" in fact["err"]


def test_a_container_gets_its_directory_its_gpus_and_its_environment(here: Site, tmp_path: Path) -> None:
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    program(stand_ins / "apptainer", '[ -z "$ICP_TMP" ] || echo "$@" > "$ICP_TMP/called"; while [ "$1" != img ]; do shift; done; shift; exec "$@"  # stand-in')
    one = using(shell("cp $ICP_TMP/called out; echo $A >> out", out=["out"]), {"container": "img", "env": {"A": "x"}})
    pilot = here.start(here.card(one), env={"PATH": f"{stand_ins}:{os.environ['PATH']}"})
    here.finish(pilot)
    assert here.result(one)["r"] == "ok", here.result(one)
    said = here.stored(one, "out").decode()
    assert said.startswith("exec -B ")
    assert "--pwd" in said
    assert said.endswith("x\n")
    # nothing is at /cvmfs where a copy is used as it is: apptainer would refuse to bind it
    data, sha256 = tarball(tmp_path / "t.tar.gz", copy_of(tmp_path / "env"))
    about = {**REPO, "container": "img", "tarballs": [["any", sha256]]}
    copied = using(shell("cp $ICP_TMP/called out; echo $APPTAINERENV_PREPEND_PATH >> out", out=["out"]), about)
    path = {"PATH": f"{stand_ins}:{os.environ['PATH']}"}
    here.finish(here.start(blob(data, sha256), here.card(copied), software={"ways": ["tarball"]}, env=path))
    assert here.result(copied)["r"] == "ok", here.result(copied).get("err")
    said = here.stored(copied, "out").decode()
    assert "/cvmfs" not in said and f"packs/software-{sha256}/bin" in said.splitlines()[-1]
    bare = using(shell("true"), {"container": "img"})
    if shutil.which("apptainer") is None and shutil.which("singularity") is None:
        here.finish(here.start(here.card(bare)))
        assert here.result(bare)["err"] == "software it: there is neither apptainer nor singularity for its container"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_one_sentence(here: Site, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "large").write_bytes(os.urandom(4_000_000))
    data, sha256 = tarball(tmp_path / "t.tar.gz", tmp_path / "env")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=True)
    try:
        one = using(shell("true"), {"tarballs": [["any", sha256]]})
        here.finish(here.start(blob(data, sha256), here.card(one), env={"TMPDIR": str(small)}, disk=1_000_000))
        fact = here.result(one)
        assert (fact["kind"], fact["err"]) == ("software", f"software it: the tarball for any ({sha256[:16]}) cannot be unpacked: No space left on device")
        here.assert_clean()
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- stand-ins for what needs CVMFS itself

CVMFSEXEC = """
# Stand-in for cvmfsexec: a real mount and process namespace, and what matters of its behaviour (that of 4.51): its command line, what it
# says on the standard output, its log, two runs from one directory break each other, what it starts inherits signals ignored, has a TMPDIR
# of its own, and a killed cvmfsexec leaves its namespace running.
here="$(cd `dirname $0` && pwd)"
usage() { echo "Usage: cvmfsexec [-vN] [-m e2fs_image] [repo ...] -- [command]" >&2; exit 1; }
while getopts "vNm:" one; do case $one in v) echo 4.51; exit;; N) ;; *) usage;; esac; done
eval "last=\\${$((OPTIND - 1)):-}"; [ "$last" = -- ] && OPTIND=$((OPTIND - 1))
shift $((OPTIND - 1))
repos=; while [ $# -gt 0 ] && [ "$1" != -- ]; do repos="$repos $1"; shift; done
[ "$1" = -- ] || usage
shift
mkdir "$here/runs" 2>/dev/null || { echo "two runs from one directory" >&2; exit 9; }
etc=$here/dist/etc/cvmfs
[ -f "$here/dist/usr/bin/cvmfs2" ] && [ -f "$etc/default.conf" ] || { echo "$here/dist should be rpm2cpio of cvmfs rpm" >&2; exit 1; }
rm -rf "$here/mnt"; mkdir -p "$here/mnt" "$here/log"
LOCAL=$(cat "$etc/default.local" "$etc"/config.d/* "$etc"/keys/icp-*/*; ls "$here/dist/var/lib/cvmfs"); export LOCAL
TMPDIR=/own; export TMPDIR
for repo in $repos; do
  case $LOCAL in *wrong*) repo=;; esac
  printf 'CernVM-FS: loading Fuse module... '
  if [ "$repo" != test.repo ]; then
    echo "Sat Nov 28 00:44:08 2026 (test.repo) failed to download repository manifest (7 - host connection problem)" >> "$here/log/test.repo.log"
    echo "Sat Nov 28 00:44:08 2026 (test.repo) Failed to initialize root file catalog (16 - file catalog failure)" >> "$here/log/test.repo.log"
    echo "Failed to initialize root file catalog (16 - file catalog failure)"; echo "mountrepo $repo failed"; rmdir "$here/runs"; exit 16
  fi
  echo done; echo "CernVM-FS: mounted cvmfs on $here/dist/cvmfs/$repo"
done
binds=; for one in /*; do [ "$one" = /proc ] || [ -L "$one" ] || binds="$binds --dev-bind $one $one"; done
for one in /bin /lib /lib64 /sbin; do [ -L "$one" ] && binds="$binds --symlink $(readlink $one) $one"; done
trap '' HUP INT QUIT TERM
bwrap $binds --unshare-pid --proc /proc --ro-bind "$TEST_TREE/test.repo" /cvmfs/test.repo --chdir "$PWD" -- "$@"
code=$?; rmdir "$here/runs"; exit $code
"""


@pytest.fixture
def cvmfsexec(tmp_path: Path) -> dict[str, Any]:
    copy_of(tmp_path / "tree" / "test.repo")
    folder = tmp_path / "dist-of-cvmfsexec"
    (tmp_path / "test.repo.pub").write_text("the key\n")
    (folder / "dist" / "etc" / "cvmfs").mkdir(parents=True)
    (folder / "dist" / "usr" / "bin").mkdir(parents=True)
    (folder / "dist" / "usr" / "bin" / "cvmfs2").touch()
    (folder / "dist" / "etc" / "cvmfs" / "default.conf").touch()
    (folder / "dist" / "etc" / "cvmfs" / "default.local").write_text('CVMFS_HTTP_PROXY="auto;DIRECT"')
    (folder / "dist" / "var" / "lib" / "cvmfs").mkdir(parents=True)
    (folder / "dist" / "var" / "lib" / "cvmfs" / "left behind").write_text("a cache")
    program(folder / "cvmfsexec", CVMFSEXEC)
    return {
        "ways": ["cvmfsexec", "bwrap"], "cvmfsexec": str(folder), "proxies": "http://squid:3128;DIRECT", "quota": 2_000_000_000,
        "repositories": [f"test.repo:url=http://s1/cvmfs/test.repo;http://s0/cvmfs/test.repo,pubkey={tmp_path}/test.repo.pub"],
    }  # fmt: skip


@needs_bwrap
@needs_fuse
def test_cvmfsexec_each_slot_has_a_copy_signals_are_reset_and_its_configuration_is_written(here: Site, tmp_path: Path, plain: str, cvmfsexec: Any) -> None:
    text = (
        "import os, signal; print(all(signal.getsignal(n) != signal.SIG_IGN for n in (1, 2, 3, 15))); "
        "print(os.environ['LOCAL']); print(os.environ['TMPDIR'] == os.environ['ICP_TMP'] or 'wrong TMPDIR'); "
        "print(os.listdir('/cvmfs/test.repo')); print(len([p for p in os.listdir('/proc') if p.isdigit()]) < 20)"
    )
    ones = [using(shell(f'python3 -c "{text}" > out; sleep 1; exit {n}', out=["out"]), REPO) for n in (0, 0, 5)]
    env = {"TMPDIR": plain, "TEST_TREE": str(tmp_path / "tree")}
    pilot = here.start(*map(here.card, ones), software=cvmfsexec, env=env, cpus=3)
    here.finish(pilot)
    assert [here.result(one)["exit"] for one in ones] == [0, 0, 5], [here.result(one) for one in ones]
    assert here.result(ones[0])["had"]["it"]["way"] == "cvmfsexec"
    said = here.stored(ones[0], "out").decode()
    assert said.startswith("True\n")
    assert said.endswith("True\n")
    assert "wrong" not in said and "left behind" not in said
    # what the distribution says by itself stays, and what we say counts
    assert said.index('CVMFS_HTTP_PROXY="auto;DIRECT"') < said.index('CVMFS_HTTP_PROXY="http://squid:3128;DIRECT"')
    for line in (
        'CVMFS_HTTP_PROXY="http://squid:3128;DIRECT"', "CVMFS_QUOTA_LIMIT=2000", f'CVMFS_CACHE_BASE="/{plain}/icp-',
        'CVMFS_SERVER_URL="http://s1/cvmfs/test.repo;http://s0/cvmfs/test.repo"', 'CVMFS_KEYS_DIR="/etc/cvmfs/keys/icp-test.repo"',
        "the key", f"{plain}/icp-",
    ):  # fmt: skip
        assert line in said
    here.assert_clean()


@needs_bwrap
@needs_fuse
def test_cvmfsexec_nothing_of_a_cancelled_task_lives_on_in_its_namespace(here: Site, tmp_path: Path, plain: str, cvmfsexec: Any) -> None:
    one = using(shell("trap '' TERM; (setsid sh -c 'while :; do sleep 1; done' &); while :; do sleep 1; done"), REPO)
    env = {"TMPDIR": plain, "TEST_TREE": str(tmp_path / "tree")}
    pilot = here.start(here.card(one), software=cvmfsexec, env=env, idle=600)
    here.wait_fact("running", a=one["a"])
    from icp.pilot import framing

    here.order(framing.frame("cancel", {"attempt": one["a"]}))
    assert here.wait_fact("ended", a=one["a"])["r"] == "cancelled"
    until(lambda: not [pid for pid in here.processes() if node.environment(pid, "ICP_ATTEMPT") == one["a"]], "the end of what it had started")
    here.order(framing.frame("drain", {"pilot": pilot}))
    here.finish(pilot)
    here.assert_clean()


@needs_bwrap
@needs_fuse
def test_cvmfsexec_is_not_taken_where_its_scratch_has_blanks(here: Site, tmp_path: Path, cvmfsexec: Any) -> None:
    one = using(shell("true"), REPO)
    here.finish(here.start(here.card(one), software={**cvmfsexec, "tree": str(tmp_path / "tree")}, env={"TMPDIR": ""}))
    assert here.result(one)["r"] == "ok", here.result(one)
    assert here.result(one)["had"]["it"]["way"] == "bwrap"
    ((way, why),) = here.of("software")[0]["vain"]
    assert way == "cvmfsexec"
    assert "blanks" in why


@needs_bwrap
@needs_fuse
def test_on_a_node_without_a_disk_the_cache_is_in_memory_with_a_quota_or_the_way_is_refused(
    tmp_path: Path, plain: str, cvmfsexec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "file_system", lambda path: "nfs4")
    env = {**os.environ, "TEST_TREE": str(tmp_path / "tree")}
    scratch = f"{plain}/scratch"
    os.mkdir(scratch)
    found = Software({**cvmfsexec, "ways": ["cvmfsexec"], "quota": 3_000_000, "slots": 2}, scratch, env, lambda sha256: None)  # type: ignore[arg-type,return-value]
    had = found.prepare({"it": REPO}, "slot.1")
    assert had["it"]["way"] == "cvmfsexec"
    local = Path(f"{scratch}/cvmfsexec/slot.1/dist/etc/cvmfs/default.local").read_text()
    assert 'CVMFS_CACHE_BASE="//dev/shm/scratch-cvmfs/slot.1"' in local and "CVMFS_QUOTA_LIMIT=3" in local
    assert os.path.isdir("/dev/shm/scratch-cvmfs")
    found.close()
    assert not os.path.exists("/dev/shm/scratch-cvmfs")
    free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
    short = Software({**cvmfsexec, "ways": ["cvmfsexec"], "quota": free + 10**9}, scratch, env, lambda sha256: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(Problem, match=rf"cvmfsexec: this node has no disk of its own \({scratch} is on nfs4\), and /dev/shm has no \d+ MB free"):
        short.prepare({"it": REPO}, "slot.1")
    shutil.rmtree(scratch)


def parrot(folder: Path, first: str = "") -> str:
    """The stand-in for parrot_run (what it does like the real one is said there), behind a few lines of sh."""
    stand_in = Path(__file__).with_name("stand_in_parrot.py")
    return program(folder / "parrot_run", f'{first}\nexec "{sys.executable}" "{stand_in}" "$@"')


@needs_bwrap
@pytest.mark.parametrize(("way", "own"), [("parrot", None), ("parrot", "http://own:8080"), ("parrot-copy", None)])
def test_parrot_gets_its_environment_and_the_task_keeps_its_own(here: Site, tmp_path: Path, plain: str, way: str, own: str | None) -> None:
    copy_of(tmp_path / "tree" / "test.repo")
    one = using(shell("env | grep -e PARROT -e HTTP_PROXY -e SEEN > out; ls /cvmfs/test.repo >> out; exit 0", out=["out"]), REPO)
    tree = str(tmp_path / "tree")
    software = {"ways": [way], "parrot_run": parrot(tmp_path), "repositories": ["test.repo:url=http://s1,pubkey=/k.pub"], "quota": 5_000_000, "tree": tree}
    env = {"TMPDIR": plain, "TEST_TREE": tree, "HTTP_PROXY": "" if own is None else own}
    here.finish(here.start(here.card(one), software=software, env=env))
    assert here.result(one)["r"] == "ok", here.result(one)
    had = here.result(one)["had"]["it"]
    assert had["way"] == way
    # through Parrot no attribute of a file is seen, and no number of a revision
    assert had["revision"] == {"test.repo": "b29d1ffedcb25e5462ecf1bb3f3624bdd9fd7464" if way == "parrot" else "42"}
    said = here.stored(one, "out").decode().splitlines()
    assert "PARROT_ENABLED=TRUE" in said
    assert "setup.sh" in said
    assert any(line.startswith(f"PARROT_TEMP_DIR={plain}/icp-") for line in said)
    if way == "parrot":
        times = "timeout=5,timeout_direct=10"
        assert f"PARROT_CVMFS_REPO=<default-repositories>:{times} test.repo:{times},url=http://s1,pubkey=/k.pub" in said
        assert f"SEEN={own or 'DIRECT;'}" in said and f"HTTP_PROXY={own or ''}" in said
    here.assert_clean()


@needs_bwrap
@pytest.mark.parametrize("way", ["parrot", "parrot-copy"])
def test_a_task_in_parrot_ends_and_is_counted_as_it_would_be_without(here: Site, tmp_path: Path, plain: str, way: str) -> None:
    copy_of(tmp_path / "tree" / "test.repo")
    tree = str(tmp_path / "tree")
    said = using(shell("echo mine; echo wrong >&2; exit 3"), REPO)
    killed = using(shell("kill -9 $$"), REPO)
    large = using(attempt("python3", "-c", "x = b'1' * 200000000\nwhile sum(range(10 ** 6)) and __import__('time').process_time() < 0.3: pass"), REPO)
    lives = using(shell("(setsid sleep 6000 &) ; true"), REPO)
    software = {"ways": [way], "parrot_run": parrot(tmp_path), "repositories": ["test.repo:url=http://s1"], "tree": tree}
    ones = [said, killed, large, lives]
    cards = [here.card(one) for one in ones]
    here.finish(here.start(*cards, software=software, env={"TMPDIR": plain, "TEST_TREE": tree}))
    assert [here.result(one)["exit"] for one in ones] == [3, -signal.SIGKILL, 0, 0], [here.result(one) for one in ones]
    assert here.result(large)["rss"] > 190_000_000 and here.result(large)["cpu"] >= 0.3
    # neither its notes nor what its client says are the task's
    from icp.pilot import framing

    card = framing.FrameParser().feed(cards[0])[0].meta["name"].rpartition("-")[2]
    assert here.log(said, card) == (b"mine\n", b"wrong\n")
    here.assert_clean()


@needs_bwrap
def test_a_signal_reaches_what_runs_in_parrot(here: Site, tmp_path: Path, plain: str) -> None:
    copy_of(tmp_path / "tree" / "test.repo")
    one = using(shell("trap 'exit 7' TERM; echo > $ICP_TMP/ready; while :; do sleep 0.1; done"), REPO)
    software = {"ways": ["parrot-copy"], "parrot_run": parrot(tmp_path), "tree": str(tmp_path / "tree")}
    pilot = here.start(here.card(one), software=software, idle=600, env={"TMPDIR": plain})
    until(lambda: list(Path(plain).glob("icp-*/slot.*/tmp/ready")), "the command's start")
    from icp.pilot import framing

    here.order(framing.frame("cancel", {"attempt": one["a"]}))
    ended = here.wait_fact("ended", a=one["a"])
    assert (ended["r"], ended["exit"]) == ("cancelled", 7), ended
    here.order(framing.frame("drain", {"pilot": pilot}))
    here.finish(pilot)
    here.assert_clean()


@needs_bwrap
def test_a_copy_that_parrot_shows_cannot_be_written_and_cvmfs_can_be_listed(here: Site, tmp_path: Path, plain: str) -> None:
    copy_of(tmp_path / "copies" / "test.repo")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "test.repo").symlink_to(tmp_path / "copies" / "test.repo")
    text = "ls /cvmfs > out; readlink -f /cvmfs/test.repo/bin/env-shell >> out; ! touch /cvmfs/test.repo/new && ! rm /cvmfs/test.repo/setup.sh"
    one = using(shell(text, out=["out"]), REPO)
    software = {"ways": ["parrot-copy"], "parrot_run": parrot(tmp_path), "tree": str(tmp_path / "tree")}
    here.finish(here.start(here.card(one), software=software, env={"TMPDIR": plain}))
    assert here.result(one)["r"] == "ok", here.result(one)
    assert here.stored(one, "out") == b"test.repo\n/cvmfs/test.repo/bin/env-shell\n"
    assert sorted(os.listdir(tmp_path / "copies" / "test.repo")) == [".cvmfspublished", "bin", "setup.sh"]
    here.assert_clean()


@needs_bwrap
@needs_fuse
@pytest.mark.parametrize(("way", "why"), [
    ("cvmfsexec", "test.repo: failed to download repository manifest (7 - host connection problem)"),
    ("parrot", "test.repo: whitelist verification failed (6): invalid whitelist signature"),
])  # fmt: skip
def test_why_a_repository_cannot_be_shown_is_in_cvmfs_s_own_words(here: Site, tmp_path: Path, plain: str, cvmfsexec: Any, way: str, why: str) -> None:
    one = using(shell("true"), REPO)
    software = {**cvmfsexec, "ways": [way], "parrot_run": parrot(tmp_path), "repositories": ["test.repo:url=http://wrong"]}
    here.finish(here.start(here.card(one), software=software, env={"TMPDIR": plain, "TEST_TREE": str(tmp_path / "tree")}))
    fact = here.result(one)
    assert (fact["kind"], fact["err"]) == ("software", f"software it: there is no way to it on {os.uname().nodename} ({way}: {why})")
    here.assert_clean()


@needs_bwrap
@needs_fuse
def test_a_check_shows_a_repository_through_each_way_that_can(tmp_path: Path, plain: str, cvmfsexec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", plain)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TEST_TREE", str(tmp_path / "tree"))
    told = {**cvmfsexec, "ways": ["cvmfsexec", "parrot", "parrot-copy", "bwrap"], "parrot_run": parrot(tmp_path), "tree": str(tmp_path / "tree")}
    seen = survey(told, whole=True)
    assert seen["shows"] == {
        "cvmfsexec": "test.repo (revision 42)", "parrot": "test.repo (revision b29d1ffedcb2)", "parrot-copy": "test.repo (revision 42)",
        "bwrap": "test.repo (revision 42)",
    }  # fmt: skip
    assert [why for _, why in seen["ways"]] == [""] * 4
    seen = survey({**told, "repositories": ["test.repo:url=http://wrong"]}, whole=True)
    assert [way for way, why in seen["ways"] if why] == ["cvmfsexec", "parrot"]
    # a login node is not bothered so
    seen = survey({**told, "repositories": ["test.repo:url=http://wrong"]}, whole=False)
    assert seen["shows"] == {} and not any(why for _, why in seen["ways"])
    assert os.listdir(plain) == []


@needs_bwrap
def test_a_wrapper_that_ends_without_the_command_s_end_is_no_success(here: Site, tmp_path: Path, plain: str) -> None:
    copy_of(tmp_path / "tree" / "test.repo")
    copies = parrot(tmp_path, 'case "$*" in *forty-two*) echo lost it >&2; exit 0;; esac')
    one = using(shell(": forty-two"), REPO)
    here.finish(here.start(here.card(one), software={"ways": ["parrot-copy"], "parrot_run": copies, "tree": str(tmp_path / "tree")}, env={"TMPDIR": plain}))
    fact = here.result(one)
    assert (fact["r"], fact["kind"]) == ("error", "software"), fact
    assert fact["err"] == "software it: parrot-copy ended with exit code 0, and the command's own end was not seen"


@needs_bwrap
@needs_fuse
def test_a_wrapper_that_cannot_begin_says_what_it_said(here: Site, tmp_path: Path, plain: str, cvmfsexec: Any) -> None:
    one = using(shell("true"), {**REPO, "setup": "/cvmfs/test.repo/setup.sh x"})
    folder = Path(cvmfsexec["cvmfsexec"])
    # found good, and then it is not: what it says is on its standard output
    program(folder / "cvmfsexec", '[ -e "$TEST_TREE/bad" ] && { echo "mountrepo test.repo failed"; exit 16; }' + CVMFSEXEC)
    software = {**cvmfsexec, "ways": ["cvmfsexec"]}
    program(tmp_path / "tree" / "test.repo" / "setup.sh", '[ -n "$ICP_ATTEMPT" ] || touch "$TEST_TREE/bad"')
    here.finish(here.start(here.card(one), software=software, env={"TMPDIR": plain, "TEST_TREE": str(tmp_path / "tree")}))
    fact = here.result(one)
    assert fact["err"] == "software it: cvmfsexec ended with exit code 16 (mountrepo test.repo failed), and the command's own end was not seen", fact
    here.assert_clean()
