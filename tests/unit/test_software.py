"""Software environments: what a steering file and the configuration may say of them, platforms, archives, and where a cache may lie."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from icp import config
from icp.config import keys
from icp.dsl.disk import Disk
from icp.dsl.expand import Renderer
from icp.dsl.steering import parse
from icp.dsl.values import JobContext, SiteContext
from icp.engine.shipments import provide
from icp.errors import BadInput, Unreachable
from icp.model.definition import steering_from_json, to_json
from icp.pilot import node, platforms, ways
from icp.pilot.archives import unpack

SHA = "0" * 64
FILE = f"""
[steering]
release = "v1.9.2"
[software.icetray]
cvmfs = ["icecube.opensciencegrid.org"]
shell = "/cvmfs/icecube.opensciencegrid.org/env $steering(release) $system(mode)"
env = {{ A = "$steering(release)", B = "$HOME" }}
tarball = [{{ platform = "linux-x86_64-glibc2.17", url = "https://example.org/t.tar.gz", sha256 = "{SHA}" }}]
[software.other]
setup = "/x/setup.sh"
[task.a]
software = "icetray"
command = "true"
[task.b]
  [[task.b.tray]]
  software = "other"
    [[task.b.tray.module]]
    command = "true"
  [[task.b.tray]]
    [[task.b.tray.module]]
    command = "true"
"""


def test_a_card_says_what_its_steps_run_in() -> None:
    steering = parse(FILE, "x.toml")
    again = steering_from_json(to_json(steering))
    assert again.software == steering.software
    job, site = JobContext("x", 1, 0, 1, {}), SiteContext("s", {}, {"mode": "fast"})
    a, b = (Renderer(again, task).render(job, site) for task in again.tasks)
    assert a.software == {
        "icetray": {
            "cvmfs": ["icecube.opensciencegrid.org"], "shell": "/cvmfs/icecube.opensciencegrid.org/env v1.9.2 fast", "env": {"A": "v1.9.2", "B": "$HOME"},
            "tarballs": [["linux-x86_64-glibc2.17", SHA]],
        }
    }  # fmt: skip
    assert [step["software"] for step in a.steps + b.steps] == ["icetray", "other", None]
    assert b.software == {"other": {"setup": "/x/setup.sh"}}


def test_a_command_at_the_top_runs_in_the_only_environment() -> None:
    steering = parse('command = "true"\n[software.it]\nsetup = "/x"\n', "x.toml")
    assert steering.tasks[0].software == "it"
    with pytest.raises(BadInput, match="a mistake"):
        parse('command = "true"\n[software.it]\nsetup = "/x"\n[software.its]\nsetup = "/x"\n', "x.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('software = "icetrya"', "there is no software 'icetrya'; did you mean icetray?"),
        ('[software.icetray]\ncvmfs = ["../x"]', "software.icetray.cvmfs[0]: '../x' is not valid; expected the name of a repository"),
        ('[software.icetray]\nshell = "x $args(job)"', "$args(job) is not known to an environment"),
        ('[software.icetray]\nenv = { "A B" = "x" }', "'A B' cannot name a variable"),
        (f'[software.icetray]\ntarball = [{{ url = "none.tar", sha256 = "{SHA}" }}]', "there is no file 'none.tar' beside the steering file"),
        (f'[software.icetray]\ntarball = [{{ url = "gsiftp://x", sha256 = "{SHA}" }}]', "'gsiftp://x' cannot be fetched"),
        ('[software.icetray]\ntarball = [{ url = "https://x", sha256 = "abc" }]', "expected 64 hexadecimal digits"),
        (f'[software.icetray]\ntarball = [{{ platform = "x86", url = "https://x", sha256 = "{SHA}" }}]', "linux-x86_64-glibc2.17"),
    ],
)
def test_mistakes(text: str, said: str, tmp_path: Path) -> None:
    top = text if text.startswith("[") else "[software.icetray]\nsetup = '/x'"
    of_task = "" if text.startswith("[") else text
    with pytest.raises(BadInput) as caught:
        parse(f'{top}\n[task.a]\ncommand = "true"\n{of_task}\n', "x.toml", Disk(tmp_path))
    assert any(said in one for one in caught.value.mistakes), caught.value.mistakes


def test_an_environment_with_nothing_in_it_is_a_warning() -> None:
    steering = parse('command = "true"\n[software.it]\n', "x.toml")
    assert any("software.it: it has nothing in it" in one for one in steering.warnings)


# --- platforms

MINE = "linux-x86_64-glibc2.28"


@pytest.mark.parametrize(
    ("offered", "mine", "best"),
    [
        (["linux-x86_64-glibc2.17", "linux-x86_64-glibc2.28", "linux-x86_64-glibc2.34", "any"], MINE, "linux-x86_64-glibc2.28"),
        (["linux-x86_64-glibc2.9", "linux-x86_64-glibc2.17"], MINE, "linux-x86_64-glibc2.17"),
        (["linux-x86_64-musl1.2", "linux-aarch64-glibc2.17"], MINE, None),
        (["linux-x86_64", "any"], MINE, "linux-x86_64"),
        (["linux-x86_64-musl", "linux-x86_64-glibc2.17"], "linux-x86_64-musl1.2", "linux-x86_64-musl"),
        (["linux-aarch64-glibc2.17"], "linux-aarch64-glibc2.31", "linux-aarch64-glibc2.17"),
        ([], MINE, None),
        (["any"], "freebsd-amd64", "any"),
    ],
)
def test_the_best_platform_that_a_node_satisfies(offered: list[str], mine: str, best: str | None) -> None:
    assert platforms.best(offered, mine) == best


def test_this_machine_suits_itself() -> None:
    assert platforms.best([platforms.here()], platforms.here()) == platforms.here()
    assert "glibc" in platforms.here() or "musl" in platforms.here()


# --- archives


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> str:
    with tarfile.open(path, "w:gz") as out:
        for info, data in members:
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return str(path)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(entry("../x"), b"")],
        [(entry("/etc/x"), b"")],
        [(entry("l", tarfile.SYMTYPE, ".."), b""), (entry("l/x"), b"")],
        [(entry("h", tarfile.LNKTYPE, "../outside"), b"")],
        [(entry("dev", tarfile.CHRTYPE), b"")],
    ],
)
def test_an_archive_writes_nothing_beside_its_folder(tmp_path: Path, members: Any) -> None:
    (tmp_path / "outside").write_text("")
    (tmp_path / "in").mkdir()
    before = sorted(os.listdir(tmp_path))
    path = archive(tmp_path / "a.tar.gz", *members)
    with pytest.raises((ValueError, OSError)):
        unpack(path, str(tmp_path / "in"))
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "a.tar.gz"])


def test_what_is_no_archive_or_breaks_off_is_refused(tmp_path: Path) -> None:
    whole = Path(archive(tmp_path / "a.tar.gz", (entry("x"), os.urandom(100_000)))).read_bytes()
    for number, data in enumerate((b"no archive", whole[: len(whole) // 2])):
        (tmp_path / "b").write_bytes(data)
        (tmp_path / f"in{number}").mkdir()
        with pytest.raises((ValueError, OSError, EOFError)):
            unpack(str(tmp_path / "b"), str(tmp_path / f"in{number}"))


# --- caches


def kit(tmp_path: Path, **told: Any) -> ways.Kit:
    return ways.Kit(told, str(tmp_path), {}, False, lambda name: ("", ""))


def test_a_cache_lies_in_the_scratch_or_where_the_site_says(tmp_path: Path) -> None:
    assert kit(tmp_path).cache() == (f"{tmp_path}/cvmfs", "")
    (tmp_path / "fast").mkdir()
    place, why = kit(tmp_path, cache=str(tmp_path / "fast")).cache()
    assert (place, why) == (f"{tmp_path}/fast/{tmp_path.name}-cvmfs", "")


def test_without_a_disk_of_its_own_memory_is_taken_with_a_quota_or_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "file_system", lambda path: "lustre")
    one = kit(tmp_path, quota=1_000_000)
    place, why = one.cache()
    assert (place, why) == (f"/dev/shm/{tmp_path.name}-cvmfs", "")
    assert one.quota == 1
    one.close()
    assert not Path(place).exists()
    place, why = kit(tmp_path, quota=10**15).cache()
    assert place == ""
    assert why == f"this node has no disk of its own ({tmp_path} is on lustre), and /dev/shm has no {10**9} MB free"


def test_memory_for_a_cache_must_be_there_for_each_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "file_system", lambda path: "nfs")
    free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize // 10**6
    why = kit(tmp_path, quota=(free // 4 + 2) * 10**6, slots=4).cache()[1]
    assert why.endswith(f"/dev/shm has no {(free // 4 + 2) * 4} MB free ({free // 4 + 2} MB for each of 4 slots)")
    one = kit(tmp_path, quota=(free // 4 + 2) * 10**6, slots=2)
    assert one.cache()[1] == ""
    one.close()


# --- what each way is told (CVMFS's own configuration, and Parrot's variables)


def told(tmp_path: Path, cls: type[ways.Way], slot: str = "slot.1", env: dict[str, str] | None = None, **site: Any) -> tuple[list[str], dict[str, str]]:
    """(what is started, its variables) for a task in this slot."""
    one = cls(ways.Kit(site, str(tmp_path), {}, False, lambda name: (f"/opt/{name}", "")), ["a.repo", "b.repo"], [])
    step = ways.Step(dict(env or {}), "/work", slot)
    return one.wrap(["simulate", "--", "it"], step), step.env


TIMES = "timeout=5,timeout_direct=10"
DEFAULT = f"<default-repositories>:{TIMES}"


@pytest.mark.parametrize(
    ("site", "proxy", "repositories", "folder"),
    [
        ({}, "DIRECT;", DEFAULT, "cvmfs"),
        ({"proxies": "DIRECT"}, "DIRECT;", DEFAULT, "cvmfs"),
        ({"proxies": "http://a:3128|http://b:3128;DIRECT"}, "http://a:3128|http://b:3128;DIRECT", DEFAULT, "cvmfs"),
        ({"quota": 5 * 10**9}, "DIRECT;", DEFAULT, "cvmfs/slot.1"),
        (
            {"repositories": ["a.repo:url=http://s1/cvmfs/a.repo;http://s0/cvmfs/a.repo,pubkey=/k/a.pub", "b.repo:url=http://s1/b,timeout=60"]}, "DIRECT;",
            f"{DEFAULT} a.repo:{TIMES},url=http://s1/cvmfs/a.repo;http://s0/cvmfs/a.repo,pubkey=/k/a.pub b.repo:{TIMES},url=http://s1/b,timeout=60", "cvmfs",
        ),
        ({"quota": 10**9, "alien_cache": "/shared/cvmfs"}, "DIRECT;", DEFAULT, "cvmfs"),
    ],
)  # fmt: skip
def test_what_parrot_is_told(tmp_path: Path, site: dict[str, Any], proxy: str, repositories: str | None, folder: str) -> None:
    argv, env = told(tmp_path, ways.Parrot, **site)
    assert argv[:4] == ["/opt/parrot_run", "--no-set-foreground", "/bin/sh", "-c"] and argv[-3:] == ["simulate", "--", "it"]
    assert (env["HTTP_PROXY"], env.get("PARROT_CVMFS_REPO")) == (proxy, repositories)
    assert env["PARROT_TEMP_DIR"] == f"{tmp_path}/{folder}"
    assert env.get("PARROT_CVMFS_ALIEN_CACHE") == site.get("alien_cache")
    assert env["PARROT_ALLOW_SWITCHING_CVMFS_REPOSITORIES"] == "yes"
    assert env["PARROT_DEBUG_FLAGS"] == "clear error"


def test_what_a_task_says_to_parrot_itself_stays(tmp_path: Path) -> None:
    own = {"PARROT_CVMFS_REPO": "x.repo:url=http://x", "PARROT_DEBUG_FLAGS": "cvmfs"}
    env = told(tmp_path, ways.Parrot, env=own)[1]
    assert {name: env[name] for name in own} == own


def test_a_cache_of_parrot_is_emptied_where_it_grew_over_its_quota(tmp_path: Path) -> None:
    one = ways.Parrot(kit(tmp_path, quota=1_000_000), ["a.repo"], [])
    one.ready("slot.1")
    kept = tmp_path / "cvmfs/slot.1/cvmfs/3d"
    kept.parent.mkdir()
    for size, there in ((900_000, True), (1_100_000, False)):
        kept.write_bytes(bytes(size))
        one.ready("slot.1")
        assert kept.exists() == there
    assert (tmp_path / "cvmfs/slot.1").is_dir()


def test_a_cache_of_parrot_which_has_no_bound_is_not_put_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "file_system", lambda path: "nfs4")
    runs = tmp_path / "parrot_run"
    runs.write_text("#!/bin/sh\n")
    runs.chmod(0o755)
    refused = f"this node has no disk of its own ({tmp_path} is on nfs4), and the cache of Parrot has no bound: not in memory"
    for shared, why in (("", refused), ("/shared", "")):
        one = ways.Kit({"quota": 1_000_000, "alien_cache": shared}, str(tmp_path), dict(os.environ), False, lambda name: (str(runs), ""))
        assert ways.Parrot(one, ["a.repo"], []).lacks() == why
        one.close()


def test_parrot_shows_no_copy_from_a_path_with_blanks(tmp_path: Path) -> None:
    runs = tmp_path / "parrot_run"
    runs.write_text("#!/bin/sh\n")
    runs.chmod(0o755)
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    it = ways.Kit({}, str(tmp_path), dict(os.environ), False, lambda name: (str(runs), ""))
    one = ways.ParrotCopy(it, ["a.repo"], [(f"{tmp_path}/link", "/cvmfs/a.repo")])
    assert one.lacks() == f"it cannot show what lies in a path with blanks: {tmp_path}/a b"


@pytest.mark.parametrize("own", [None, "http://own:8080", ""])
def test_programs_of_a_task_see_their_own_proxy_and_not_parrot_s(tmp_path: Path, own: str | None) -> None:
    argv, env = told(tmp_path, ways.Parrot, env={} if own is None else {"HTTP_PROXY": own}, proxies="http://squid:3128;DIRECT")
    assert env["HTTP_PROXY"] == "http://squid:3128;DIRECT"
    inner = [*argv[2:-3], "sh", "-c", 'echo "${HTTP_PROXY-none}"']
    said = subprocess.run(inner, env={**env, "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True).stdout
    assert said == f"{'none' if own is None else own}\n"


def test_what_cvmfsexec_is_told(tmp_path: Path) -> None:
    argv, env = told(tmp_path, ways.Cvmfsexec)
    assert argv[:5] == [f"{tmp_path}/cvmfsexec/slot.1/cvmfsexec", "-N", "a.repo", "b.repo", "--"] and argv[-3:] == ["simulate", "--", "it"]
    assert env == {}


@pytest.mark.parametrize("given", ["folder", "command"])
def test_a_copy_of_cvmfsexec_keeps_what_its_distribution_says_and_leaves_its_cache_behind(tmp_path: Path, given: str) -> None:
    home, scratch = tmp_path / "dist-of", tmp_path / "scratch"
    (home / "dist/etc/cvmfs").mkdir(parents=True)
    (home / "dist/var/lib/cvmfs/shared").mkdir(parents=True)
    (home / "dist/cvmfs/a.repo").mkdir(parents=True)
    (home / "mnt").mkdir()
    scratch.mkdir()
    (home / "cvmfsexec").write_text("#!/bin/sh\n")
    (home / "dist/etc/cvmfs/default.local").write_text('CVMFS_HTTP_PROXY="auto;DIRECT"')
    (tmp_path / "k").write_text("key")
    path = str(home if given == "folder" else home / "cvmfsexec")
    for number, (site, said) in enumerate([
        ({}, []),
        ({"proxies": "http://a|http://b;DIRECT", "quota": 10**9}, ['CVMFS_HTTP_PROXY="http://a|http://b;DIRECT"', "CVMFS_QUOTA_LIMIT=1000"]),
        ({"alien_cache": "/shared", "quota": 10**9}, ['CVMFS_ALIEN_CACHE="//shared"', "CVMFS_SHARED_CACHE=no", "CVMFS_QUOTA_LIMIT=-1"]),
    ]):  # fmt: skip
        site["repositories"] = [f"a.repo:url=http://s1/a;http://s0/a,pubkey={tmp_path}/k"]
        kit = ways.Kit(site, str(scratch), {}, False, lambda name: (path, ""))
        ways.Cvmfsexec(kit, ["a.repo"], []).ready(f"slot.{number}")
        copy = scratch / f"cvmfsexec/slot.{number}"
        lines = (copy / "dist/etc/cvmfs/default.local").read_text().split("\n")
        assert lines == ['CVMFS_HTTP_PROXY="auto;DIRECT"', f'CVMFS_CACHE_BASE="/{scratch}/cvmfs/slot.{number}"', *said, ""]
        assert (copy / "dist/etc/cvmfs/config.d/a.repo.local").read_text() == (
            'CVMFS_SERVER_URL="http://s1/a;http://s0/a"\nCVMFS_KEYS_DIR="/etc/cvmfs/keys/icp-a.repo"\n'
        )
        assert (copy / "dist/etc/cvmfs/keys/icp-a.repo/0.pub").read_text() == "key"
        assert not list((copy / "dist/var/lib/cvmfs").iterdir()) and not list((copy / "dist/cvmfs").iterdir()) and not (copy / "mnt").exists()


def test_the_kind_of_a_file_system_is_read_from_the_kernel() -> None:
    assert node.file_system("/proc/self") == "proc"
    assert node.file_system("/") != ""


# --- configuration


def test_the_ways_of_the_configuration_are_those_of_the_pilot() -> None:
    assert tuple(one.name for one in ways.WAYS) == keys.WAYS


def test_a_site_s_software_is_told_and_what_is_shipped_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'[site.s]\npythons = ["x86_64 https://x/python.tar.gz {SHA}"]\n[site.s.software]\nways = ["parrot", "mounted"]\nquota = "5 GB"\n'
        f'parrot_run = "https://x/cctools.tar.gz"\nparrot_run_sha256 = "{"1" * 64}"\ncvmfsexec = "/opt/cvmfsexec"\n'
        'repositories = ["test.repo:url=http://a;http://b,pubkey=/k.pub"]\nproxies = "http://a:3128|http://b:3128;DIRECT"\n'
    )
    site = config.load({"ICP_HOME": str(tmp_path)}).sites["s"]
    assert site.software == {
        "ways": ["parrot", "mounted"], "quota": 5_000_000_000, "parrot_run": {"sha256": "1" * 64}, "cvmfsexec": "/opt/cvmfsexec",
        "repositories": ["test.repo:url=http://a;http://b,pubkey=/k.pub"], "proxies": "http://a:3128|http://b:3128;DIRECT",
    }  # fmt: skip
    assert site.shipped == (("https://x/cctools.tar.gz", "1" * 64), ("https://x/python.tar.gz", SHA))
    assert site.pythons == (("x86_64", SHA),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ways = ["fuse"]', "expected a list of some of mounted"),
        ('cvmfsexec = "https://x/y"', "cvmfsexec_sha256"),
        ('cvmfsexec = "cvmfsexec"', "expected an absolute path"),
        ('repositories = ["test.repo"]', "REPOSITORY:url="),
        ('parrot_run_sha256 = "abc"', "64 hexadecimal digits"),
    ],
)
def test_mistakes_of_a_site(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(f"[site.s.software]\n{text}\n")
    with pytest.raises(BadInput) as caught:
        config.load({"ICP_HOME": str(tmp_path)})
    assert said in " ".join([caught.value.message, *caught.value.mistakes])


# --- fetched here


def test_bytes_are_fetched_once_and_only_if_they_are_the_right_ones(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"data")
    right = hashlib.sha256(b"data").hexdigest()
    assert provide(tmp_path / "stock", "t.tar", right, "software.x", tmp_path).read_bytes() == b"data"
    (tmp_path / "t.tar").unlink()
    assert provide(tmp_path / "stock", "t.tar", right, "software.x", tmp_path).exists()
    with pytest.raises(Unreachable, match=r"software\.x: t\.tar cannot be fetched: .*No such file"):
        provide(tmp_path / "stock", "t.tar", SHA, "software.x", tmp_path)
    (tmp_path / "t.tar").write_bytes(b"other")
    with pytest.raises(BadInput, match=f"has sha256 {hashlib.sha256(b'other').hexdigest()}, expected {SHA}"):
        provide(tmp_path / "stock", "t.tar", SHA, "software.x", tmp_path)
    assert os.listdir(tmp_path / "stock") == [right]
