"""A spool with real pilots in a directory with an ugly name, for tests: the engine's side in a few words."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from icp.backends import ship
from icp.pilot import framing, node, spool

LEDGER = "0b6c1f6e-6a0e-4a53-9d8e-3f1f2f1f7c11"
PATIENCE = 90.0


@lru_cache
def old_python() -> str | None:
    """A real Python 3.6, in PATH or under ~/.pyenv; None if there is none."""
    candidates = [
        shutil.which("python3.6") or "",
        *map(str, sorted(Path.home().glob(".pyenv/versions/3.6*/bin/python"))),
    ]
    for candidate in filter(None, candidates):
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2] == (3, 6))"], capture_output=True, check=False
        )
        if done.stdout.strip() == b"True":
            return candidate
    return None


def until(true: Callable[[], Any], what: str = "it") -> Any:
    """Waits for real processes: the value once it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {PATIENCE} s")


class Reply:
    """The frames of an answer."""

    def __init__(self, code: int, raw: bytes, err: str) -> None:
        parser = framing.FrameParser()
        self.code, self.err, self.raw = code, err, raw
        self.frames = parser.feed(raw)

    def all(self, kind: str) -> list[framing.Frame]:
        return [one for one in self.frames if one.kind == kind]

    def one(self, kind: str) -> Any:
        (frame,) = self.all(kind)
        return frame.meta


class Site:
    """One spool, the program, and the engine's memory of it."""

    def __init__(self, base: Path, python: str = sys.executable) -> None:
        self.base, self.python = base / 'it\'s a "site"\n$(x)', python
        self.base.mkdir()
        self.root = self.base / "spool"
        self.where = spool.Spool(str(self.root))
        self.program, _ = ship.cached(self.base)
        self.serial = 0
        self.positions: dict[str, spool.Position] = {}
        self.facts: list[tuple[str, dict[str, Any]]] = []
        self.mark = secrets.token_hex(8)
        self.env = {**os.environ, "ICP_NODE_DIR": str(self.base / "node"), "ICP_TEST_MARK": self.mark}
        self.env.pop("ICP_FAULT", None)
        need = {"any": [[["CPU", "==", True]]], "cpus": 1, "disk": 1000000, "gpus": 0, "memory": 1000000, "time": 3600}
        self.need = self.intern(need)

    def intern(self, need: dict[str, Any]) -> str:
        text = json.dumps(need, sort_keys=True, separators=(",", ":")).encode()
        name = hashlib.sha256(text).hexdigest()[:16]
        self._needs = {**getattr(self, "_needs", {}), name: text}
        return name

    def run(
        self, *words: str, data: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.python, "-I", "-S", str(self.program), *words],
            input=data,
            capture_output=True,
            env={**self.env, **(env or {})},
            check=False,
        )

    # --- exchange

    def send(
        self,
        orders: Sequence[bytes] | None,
        query: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        **hello: Any,
    ) -> Reply:
        body = None if orders is None else b"".join(orders)
        said = {"ledger": LEDGER, "epoch": 1, "serial": self.serial, "new": True, **hello}
        said["orders"] = None if body is None else {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        data = framing.frame("hello", said) + (body or b"") + framing.frame("query", query or {}) + framing.frame("end", {})
        done = self.run("exchange", "--root", str(self.root), data=data, env=env)
        return Reply(done.returncode, done.stdout, done.stderr.decode())

    def order(self, *orders: bytes, env: dict[str, str] | None = None) -> Reply:
        """New orders, sent until they are answered."""
        self.serial += 1
        for _ in range(5):
            reply = self.send(orders, env=env)
            if reply.all("applied"):
                return reply
        raise AssertionError(reply.err)

    def needs(self) -> list[bytes]:
        return [framing.frame("need", {"id": name}, text) for name, text in self._needs.items()]

    def tick(self, **query: Any) -> Reply:
        """Asks, and takes the facts."""
        query["streams"] = {name: list(position) for name, position in self.positions.items()}
        reply = self.send(None, query)
        chunks: dict[str, list[tuple[int, int, bytes]]] = {}
        for one in reply.all("journal"):
            chunks.setdefault(f"{one.meta['agent']}/{one.meta['stream']}", []).append(
                (one.meta["segment"], one.meta["offset"], one.body)
            )
        for name, parts in chunks.items():
            facts, self.positions[name] = spool.take(self.positions.get(name, spool.BEGIN), parts, oldest=True)
            self.facts += [(name, fact) for fact in facts]
        return reply

    # --- cards and pilots

    def card(self, *attempts: dict[str, Any], need: str | None = None, priority: int = 0) -> bytes:
        name = secrets.token_hex(8)
        content = {"card": name, "format": 1, "need": need or self.need, "attempts": list(attempts)}
        return framing.frame(
            "card", {"name": spool.join_card_name(priority, need or self.need, name)}, json.dumps(content).encode()
        )

    def submit(self, pilot: str, **told: Any) -> bytes:
        config = {
            "pilot": pilot,
            "ledger": LEDGER,
            "idle": 0.3,
            "cpus": 2,
            "memory": 4 * 10**9,
            "disk": 10**9,
            "gpus": 0,
            "heartbeat": 1,
            **told,
        }
        words = [self.python, "-I", "-S", str(self.program), "run", "--spool", str(self.root), "--pilot", pilot]
        script = "#!/bin/sh\n" + shlex.join(words) + "\n"
        argv = ["{python}", "-I", "-S", "{program}", "launch", "{dir}"]
        return framing.frame(
            "submit", {"pilot": pilot, "argv": argv, "files": {"pilot.json": json.dumps(config), "submit.sh": script}}
        )

    def start(self, *orders: bytes, pilot: str | None = None, env: dict[str, str] | None = None, **told: Any) -> str:
        pilot = pilot or secrets.token_hex(8)
        reply = self.order(*self.needs(), *orders, self.submit(pilot, **told), env=env)
        assert reply.one("applied")["submit"][pilot]["rc"] == 0, reply.one("applied")
        return pilot

    def ended(self, pilot: str) -> bool:
        return (self.root / "pilots" / pilot / "exit").exists()

    def finish(self, pilot: str) -> None:
        until(lambda: self.ended(pilot), "the pilot's end")
        self.tick()

    def said(self, pilot: str) -> str:
        return (self.root / "pilots" / pilot / "out").read_text()

    def of(self, word: str) -> list[dict[str, Any]]:
        return [fact for _, fact in self.facts if fact["f"] == word]

    def result(self, attempt: dict[str, Any]) -> dict[str, Any]:
        (fact,) = [fact for fact in self.of("ended") if fact["a"] == attempt["a"]]
        assert fact["k"] == attempt["k"]
        return fact

    def wait_fact(self, word: str, **fields: Any) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            self.tick()
            found = [fact for fact in self.of(word) if all(fact.get(key) == value for key, value in fields.items())]
            return found[0] if found else None

        found: dict[str, Any] = until(look, f"the fact {word} {fields}")
        return found

    def log(self, attempt: dict[str, Any], card: str) -> tuple[bytes, bytes]:
        offset, out, err = self.result(attempt)["log"]
        reply = self.tick(logs=[[card, offset, out + err]])
        body = reply.all("log")[0].body
        return body[:out], body[out:]

    def stored(self, attempt: dict[str, Any], name: str) -> bytes:
        return (self.root / "store" / str(attempt["a"]) / name).read_bytes()

    # --- what is left

    def processes(self) -> dict[int, str]:
        """Everything that was started on behalf of this site: pid -> agent."""
        return {
            pid: node.environment(pid, "ICP_AGENT") or ""
            for pid in node.processes()
            if node.environment(pid, "ICP_TEST_MARK") == self.mark
        }

    def entry(self) -> dict[str, Any]:
        """The node's note of the only agent: its processes are [supervisor, agent]."""
        (path,) = (self.base / "node" / LEDGER[:8]).glob("*.json")
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def pids(self) -> tuple[int, int]:
        (supervisor, _), (agent, _) = until(
            lambda: [*self.entry()["processes"]] if len(self.entry()["processes"]) == 2 else None
        )
        return int(supervisor), int(agent)

    def assert_clean(self) -> None:
        """No process and no directory is left but the spool."""
        until(lambda: not self.processes(), f"the end of all processes ({self.processes()})")
        assert not (self.base / "node").exists()
        assert not (self.root / "work").exists()

    def close(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def attempt(*argv: Any, out: Sequence[Any] = (), **fields: Any) -> dict[str, Any]:
    """An attempt with one step; outputs by name."""
    value = {
        "a": secrets.token_hex(8),
        "k": secrets.token_hex(8),
        "dataset": LEDGER,
        "job": 17,
        "task": "t",
        "try": 1,
        "after": [],
        "cpus": 1,
        "memory": 1000000,
        "disk": 1000000,
        "gpus": 0,
        "time": 3600,
        "files": [],
        "in": [],
        "steps": [{"tray": 0, "iter": 0, "module": 0, "software": None, "env": {}, "argv": list(argv)}],
        "out": [one if isinstance(one, dict) else {"name": one, "optional": False} for one in out],
    }
    return {**value, **fields}


def shell(text: str, **fields: Any) -> dict[str, Any]:
    return attempt("/bin/sh", "-e", "-c", text, **fields)


def tree(root: Path, leave: Sequence[str] = ()) -> dict[str, bytes | None]:
    """Every file below, with its content; directories have None."""
    found: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith(tuple(leave)):
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def sites(base: Path, python: str = sys.executable) -> Iterator[Site]:
    """A site that leaves no process behind, whatever the test did."""
    site = Site(base, python)
    try:
        yield site
    finally:
        site.close()
