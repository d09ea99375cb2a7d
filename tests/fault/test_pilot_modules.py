"""Python modules as steps: real pilots, cold and forked from a warm interpreter, under this Python and 3.6."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pilot_site import Site, attempt, until

from icp.pilot import framing

pytestmark = pytest.mark.long

TEXT = '''
import os, random, signal, sys, threading, time
from icp.pilot.module import Module, Parameter


drawn = random.random()
kept = []


class One(Module):
    """What tests ask of a module."""

    do = Parameter(str, "")
    n = Parameter(int, 1)
    cuts = Parameter(dict, {"a": 1})
    place = Parameter(str, "")

    def execute(self, stats):
        stats["warm"] = "icp.pilot.warm_child" in sys.modules and 1 or 0
        stats["drawn"] = drawn
        stats["pid"] = os.getpid()
        stats.increment("n", self.n)
        if self.do:
            return getattr(self, self.do)()

    def show(self):
        print("cuts", self.cuts, "place", self.place, "in", os.path.basename(os.getcwd()))
        print("to stderr", file=sys.stderr)

    def leave_open(self):
        kept.append(open("left.txt", "w"))
        kept[0].write("all of it")

    def fail(self):
        raise ValueError("no such luck")

    def seven(self):
        return 7

    def true(self):
        return True

    def exit(self):
        sys.exit(256)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(self):
        open(self.place, "w").close()
        time.sleep(100)

    def identity(self):
        main = threading.main_thread()
        assert getattr(main, "native_id", os.getpid()) == os.getpid()
        got = []
        old = signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
        assert old == signal.SIG_DFL
        for sender in (lambda: signal.pthread_kill(main.ident, signal.SIGUSR1), lambda: os.kill(os.getpid(), signal.SIGUSR1)):
            thread = threading.Thread(target=sender)
            thread.start()
            thread.join()
        until = time.time() + 60
        while len(got) < 2 and time.time() < until:
            time.sleep(0.001)
        assert len(got) == 2, got
        assert os.getsid(0) == os.getpgrp() == os.getpid()
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        assert os.waitpid(pid, 0) == (pid, 3 << 8)
        assert not any(name in os.environ for name in ("LEFT", "CUDA")) and os.environ["ICP_ATTEMPT"]
        threading.Thread(target=self.later).start()

    def later(self):
        time.sleep(0.05)
        open("later.txt", "w").close()

    def child(self):
        if os.fork() == 0:
            time.sleep(100)
'''


def pack(**files: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, text in sorted(files.items()):
            info = tarfile.TarInfo(name + ".py")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


DATA = pack(one=TEXT)
SHA256 = hashlib.sha256(DATA).hexdigest()
BLOB = framing.frame("blob", {"sha256": SHA256}, DATA)


def module(do: str = "", out: Any = (), marks: Any = None, **params: Any) -> dict[str, Any]:
    python: dict[str, Any] = {"file": "one.py", "class": "One", "params": {"do": do, **params}}
    if marks:
        python["marks"] = marks
    step = {"tray": 0, "iter": 0, "module": 0, "software": None, "env": {}, "python": python}
    return attempt(out=out, files=[SHA256], steps=[step])


def environment(site: Site) -> dict[str, str]:
    """python3 is the pilot's Python in a task's PATH."""
    folder = site.base / "bin"
    folder.mkdir(exist_ok=True)
    if not (folder / "python3").exists():
        (folder / "python3").write_text(f'#!/bin/sh\nexec {site.python} "$@"\n')
        (folder / "python3").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def run(site: Site, *attempts: dict[str, Any], **told: Any) -> list[dict[str, Any]]:
    pilot = site.start(BLOB, site.card(*attempts), env=environment(site), **told)
    site.finish(pilot)
    site.assert_clean()
    return [site.result(one) for one in attempts]


def test_a_module_runs_and_how_it_ends_is_told(site: Site) -> None:
    shown = module("show", cuts={"zenith": [1, {"deep": 2.5}]}, marks=[[["place"], ["<", {"node": "tmp"}, ">"]]])
    ok, seven, true, left, failed, killed = run(
        site, shown, module("seven"), module("true"), module("exit"), module("fail"), module("kill")
    )
    assert (ok["r"], ok["exit"], ok["stats"]["n"]) == ("ok", 0, 1)
    assert (seven["kind"], seven["exit"], seven["err"]) == ("payload", 7, "One.execute returned 7\n")
    assert "expected nothing, 0, or an exit code" in true["err"]
    assert (left["r"], left["exit"]) == ("error", 1)
    assert failed["err"].startswith("Traceback") and failed["err"].endswith("ValueError: no such luck\n")
    assert "python_step" not in failed["err"] and "one.py" in failed["err"]
    assert failed["stats"]["n"] == 1  # what it had counted is kept
    assert (killed["kind"], killed["exit"]) == ("payload", -9)


def test_values_arrive_and_what_is_printed_is_kept(site: Site) -> None:
    one = module("show", cuts={"zenith": [1, {"deep": 2.5}]}, marks=[[["place"], ["<", {"node": "tmp"}, ">"]]])
    card = site.card(one)
    site.finish(site.start(BLOB, card, env=environment(site)))
    out, err = site.log(one, json.loads(framing.FrameParser().feed(card)[0].body)["card"])
    assert out.startswith(b"cuts {'zenith': [1, {'deep': 2.5}]} place <") and out.endswith(b"/tmp> in work\n")
    assert err == b"to stderr\n"


def many(count: int, *dos: str) -> list[dict[str, Any]]:
    return [module(dos[number % len(dos)] if dos else "") for number in range(count)]


def warm_card(site: Site, *attempts: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of these attempts behind others that wait until an interpreter is warm."""
    before = [attempt("sleep", "0.3"), *many(4), attempt("sleep", "1.5")]
    return run(site, *before, *attempts, cpus=1)[len(before) :]


def test_a_warm_interpreter_gives_each_task_what_a_new_one_would(site: Site) -> None:
    results = warm_card(
        site,
        *many(12),
        module("leave_open", out=["left.txt"]),
        module("fail"),
        module("seven"),
        module("kill"),
        module("child"),
    )
    assert [one["stats"]["warm"] for one in results[:12]] == [1] * 12
    assert all(one["r"] == "ok" for one in results[:13])
    # its file is run anew in each: nothing drawn at random is the same, and nobody is somebody else
    told = [one["stats"] for one in results if one.get("exit") != -9]  # who is killed tells nothing
    assert len(told) == len(results) - 1
    assert len({one["drawn"] for one in told}) == len({one["pid"] for one in told}) == len(told)
    assert results[12]["out"][0][2] == len("all of it")
    failed, seven, killed, child = results[13:]
    assert failed["stats"]["warm"] == 1
    assert failed["err"].startswith("Traceback") and failed["err"].endswith("ValueError: no such luck\n")
    assert seven["exit"] == 7
    assert killed["exit"] == -9
    assert child["r"] == "ok"  # assert_clean saw that nothing of it was left


def test_a_warm_task_is_a_process_of_its_own(site: Site) -> None:
    results = warm_card(site, *[module("identity", out=["later.txt"]) for _ in range(3)])
    assert all(one["r"] == "ok" for one in results), results
    # a thread that still ran was waited for
    assert [len(one["out"]) for one in results] == [1] * 3
    assert any(one["stats"]["warm"] for one in results)


def test_what_a_library_wants_done_around_forks_is_done(tmp_path: Path) -> None:
    site = Site(tmp_path)
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "forking.py").write_text(
        "import os\nseen = []\n"
        "os.register_at_fork(before=lambda: seen.append(1), after_in_child=lambda: seen.append(os.getpid()))\n"
    )
    data = pack(one="import logging\nimport forking\n" + TEXT.replace("def show(self):", "def show(self):\n"
                "        logging.warning('of %s', forking.seen[-2:])\n        assert forking.seen[-2:] == [1, os.getpid()]"))  # fmt: skip
    sha256 = hashlib.sha256(data).hexdigest()
    steps = [{**one["steps"][0], "env": {"PYTHONPATH": str(libraries)}} for one in many(4) + many(6, "show")]
    attempts = [attempt(files=[sha256], steps=[step]) for step in steps]
    attempts.insert(4, attempt("sleep", "1.5"))
    env = environment(site)
    site.finish(site.start(framing.frame("blob", {"sha256": sha256}, data), site.card(*attempts), env=env, cpus=1))
    results = [site.result(one) for one in attempts[5:]]
    # a cold one never forked
    assert all((one["r"] == "ok") == bool(one["stats"]["warm"]) for one in results), results
    assert any(one["r"] == "ok" for one in results)
    site.close()


def test_interpreters_that_are_killed_cost_nothing_but_time(site: Site) -> None:
    waiting = [attempt("sleep", "0.1") for _ in range(30)]
    mixed = [one for pair in zip(many(30), waiting, strict=True) for one in pair]
    pilot = site.start(BLOB, site.card(*mixed), env=environment(site), cpus=1)
    killed = 0
    while not site.ended(pilot):
        for pid in site.processes():
            try:
                if b"warm_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            except OSError:
                pass  # it has ended
        if killed > 3:
            break
    assert killed
    site.finish(pilot)
    # a spare fork looks like its interpreter: one that was given a task just then is a task that was killed
    results = [site.result(one) for one in mixed[::2]]
    assert all(one["r"] == "ok" or one.get("exit") == -9 for one in results)
    assert sum(one["r"] == "ok" for one in results) >= 25
    site.assert_clean()


def test_a_warm_task_is_cancelled_like_any_other(site: Site, tmp_path: Path) -> None:
    long = module("wait", place=str(tmp_path / "began"))
    before = [attempt("sleep", "0.3"), *many(4), attempt("sleep", "1.5")]
    pilot = site.start(BLOB, site.card(*before, long), env=environment(site), cpus=1)
    until((tmp_path / "began").exists, "the task's begin")
    site.order(framing.frame("cancel", {"attempt": long["a"]}))
    site.finish(pilot)
    fact = site.result(long)
    assert fact["r"] == "cancelled"
    assert fact["stats"]["warm"] == 1 if fact.get("stats") else True
    site.assert_clean()


def test_nothing_is_left_of_warm_interpreters_and_tasks_when_the_agent_is_killed(site: Site, tmp_path: Path) -> None:
    long = module("wait", place=str(tmp_path / "began"))
    before = [attempt("sleep", "0.3"), *many(4), attempt("sleep", "1.5")]
    pilot = site.start(BLOB, site.card(*before, long), env=environment(site), cpus=1)
    until((tmp_path / "began").exists, "the task's begin")
    os.kill(site.pids()[1], signal.SIGKILL)
    site.finish(pilot)
    assert len(site.of("agent_died")) == 1
    site.assert_clean()


def test_a_library_that_kills_whoever_loads_it_is_loaded_by_its_tasks_alone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "crashing.py").write_text(
        "import os, sys\nif 'icp.pilot.warm_child' in sys.modules:\n    os.abort()\n"
    )
    text = "import crashing\n" + TEXT
    data = pack(one=text)
    sha256 = hashlib.sha256(data).hexdigest()
    steps = [{**one["steps"][0], "env": {"PYTHONPATH": str(libraries)}} for one in many(8)]
    attempts = [attempt(files=[sha256], steps=[step]) for step in steps]
    site.finish(site.start(framing.frame("blob", {"sha256": sha256}, data), site.card(*attempts), env=environment(site)))
    for one in attempts:
        assert (site.result(one)["r"], site.result(one)["stats"]["warm"]) == ("ok", 0)
    site.close()


# --- in software environments


def inside(about: dict[str, Any], *ones: dict[str, Any]) -> None:
    for one in ones:
        one["software"] = {"it": about}
        one["steps"][0]["software"] = "it"


@pytest.mark.parametrize("way", ["tarball", "bwrap", "proot"])
def test_a_module_in_an_environment_finds_what_it_needs_and_runs_under_its_python(site: Site, way: str) -> None:
    """The environment's ``bin/python3``, which the node's PATH does not have, says that it was there."""
    if way != "tarball" and shutil.which(way) is None:
        pytest.skip(f"no {way} here: no module was run through it")
    if way == "proot" and os.access("/", os.W_OK):
        pytest.skip("proot is for those who cannot write /: no module was run through it")
    text = f'#!/bin/sh\necho "the environment\'s python"\nexec {site.python} "$@"\n'
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, mode, data in (("bin/python3", 0o755, text.encode()), ("data/file", 0o644, b"")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    digest = hashlib.sha256(target.getvalue()).hexdigest()
    about: dict[str, Any] = {"tarballs": [["any", digest]], **({} if way == "tarball" else {"cvmfs": ["test.repo"]})}
    ok, failed = module("show", n=3), module("fail")
    inside(about, ok, failed)
    card = site.card(ok)
    site.finish(site.start(BLOB, framing.frame("blob", {"sha256": digest}, target.getvalue()), card, site.card(failed), software={"ways": [way]}))
    first = site.result(ok)
    assert (first["r"], first["exit"], first["stats"]["n"], first["stats"]["warm"]) == ("ok", 0, 3, 0), first
    assert first["had"]["it"]["way"] == way
    assert site.result(failed)["err"].endswith("ValueError: no such luck\n")
    assert site.result(failed)["stats"]["n"] == 1
    out, _ = site.log(ok, json.loads(framing.FrameParser().feed(card)[0].body)["card"])
    assert out.startswith(b"the environment's python\ncuts {'a': 1} place  in work\n")
    site.assert_clean()
