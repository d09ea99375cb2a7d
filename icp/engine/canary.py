"""The check of a site: a real batch job meets a process of the login node in a spool of its own (hides sessions, and what
each finding means).

It goes through the same rendering, order and receipt as a pilot, in ``<root>/check/<id>`` with an id of its own: no ledger and
no engine is needed, and none is disturbed. What is found is kept beside the ledger, in the state directory, after each step:
a check that was left alone is taken up again by the next look. Where workers share no file system with the login node nothing can
meet: the job tells of what came along, in what is brought back.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from icp.backends import ship
from icp.backends.base import Result, Unknown
from icp.backends.batch import system
from icp.backends.openssh import OpenSSH
from icp.backends.pilot_program import PilotProgram
from icp.backends.pilot_script import Body, pilot_body
from icp.backends.spool_client import Hello, Query, SpoolClient, SpoolPlace, Talk, order, with_python
from icp.config import Config, Site
from icp.engine.lines import transport
from icp.engine.pilots import wanted
from icp.engine.shipments import provide, stock
from icp.errors import BadInput, NotFound, Unreachable
from icp.model.batch import Known, NotSubmitted, Submitted, batch_name
from icp.model.exchange import Answer

__all__ = ["Check", "Step", "last_check", "site_of", "trouble_of"]

WALLTIME = 600
"""Seconds that the job asks for at the most."""
PATIENCE = 2 * 86400
"""Seconds that the login node's process waits for the job to start."""
GRACE = 30
"""Seconds after its job's end in which what it wrote may still come into sight."""
SKEW = 60.0
LAG = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """One finding. ``ok`` None: it is told, and judged by nobody."""

    name: str
    text: str
    ok: bool | None = True


HAS = {
    "namespaces": "user namespaces can be made", "fuse": "/dev/fuse can be opened", "containers": "containers can be run",
    "egress": "hosts outside are reached",
}  # fmt: skip
"""What is said of a node that has it."""


class Stopped(Exception):
    """The check is over: something is not as pilots need it. ``args``: sentence, what mends it."""


def trouble_of(site: Site, way: Any, why: str) -> Unreachable:
    """The error to show when a host did not answer: its sentence and its hint apart."""
    known = way.standing if isinstance(way, OpenSSH) else None
    if known is not None and known.trouble.text == why:
        return Unreachable(f"site {site.name}: {known.trouble.sentence}", known.trouble.hint)
    return Unreachable(f"site {site.name}: {why}", f"`ssh {site.host} true` must work without a question" if site.host else None)


def _path(config: Config, name: str) -> Path:
    return config.places.state / "checks" / f"{name}.json"


def last_check(config: Config, name: str) -> dict[str, Any] | None:
    """What is kept of the last check of a site: {"id", "state", "begun", "ended", "steps", "why", "hint", "found"}; None: there was none."""
    try:
        said = json.loads(_path(config, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and "id" in said else None


class Check:
    """One check, from its begin or taken up; ``told`` is called with each step as it passes."""

    def __init__(self, config: Config, site: Site, told: Callable[[Step], None], known: Mapping[str, Any] | None = None) -> None:
        self.config, self.site, self.told = config, site, told
        root = site.root or config.places.state / "spool"
        self.record: dict[str, Any] = dict(known) if known else {
            "id": str(uuid.uuid4()), "pilot": os.urandom(8).hex(), "site": site.name, "root": str(root), "begun": time.time(), "ended": None,
            "state": "running", "steps": [], "why": None, "hint": None, "found": {}, "job": None, "word": None,
        }  # fmt: skip
        self.way = transport(config, site)
        if isinstance(self.way, OpenSSH):
            self.way.try_now()  # a person asks: nobody is told to come back later
        self.batch = system(site.scheduler)
        base = Path(self.record["root"])
        self.base, self.spool = base, base / "check" / str(self.record["id"])
        python = site.python if site.host is not None else SpoolPlace.install(base, self.id).python
        self.place = SpoolPlace(self.spool, base / "programs" / ship.build().name, python)
        self.program = PilotProgram(self.way, self.place, site.env)
        self.job = wanted(replace(site, pilot=replace(site.pilot, walltime=min(site.pilot.walltime or WALLTIME, WALLTIME))), self.place, self.id, self.pilot)

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def pilot(self) -> str:
        return str(self.record["pilot"])

    @property
    def over(self) -> bool:
        return bool(self.record["state"] != "running")

    # -- begin --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """All up to the submit, and what the logout does to a process of ours."""
        self._keep()
        try:
            self._answers()
            self._submit()
            self._logout()
        except Stopped as end:
            self._stop(*end.args)

    def _answers(self) -> None:
        """ssh and Python, in one session."""
        begun = time.monotonic()
        asked = with_python(self.place.python, "-I -S -c 'import sys; print(sys.executable, \".\".join(map(str, sys.version_info[:3])))'")
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.site.env.items() if "'" not in value)
        outcome = self.way.run(["/bin/sh", "-c", exports + asked], b"", 60)
        if isinstance(outcome, Unknown):
            known = self.way.standing if isinstance(self.way, OpenSSH) else None
            if known is not None and known.trouble.text == outcome.why:
                raise Stopped(known.trouble.sentence, known.trouble.hint)
            raise Stopped(outcome.why, f"`ssh {self.site.host} true` must work without a question")
        if self.site.host is not None:
            self._say("ssh", f"{self.site.host} answers in {time.monotonic() - begun:.1f} s")
        words = outcome.out.decode("utf-8", "replace").strip().splitlines()
        if outcome.code != 0 or not words:
            where = self.place.python or "in the usual places"
            raise Stopped(f"there is no Python 3.6 or newer at the login node ({where})", f"`icp config set site.{self.site.name}.python /path/to/python3`")
        self._say("python", words[-1])

    def _submit(self) -> None:
        """The spool is made, the program sent, the job submitted: one exchange."""
        shared = self.site.shared
        words = ("canary", "work" if shared else "carried", "--software", json.dumps(self.site.software, sort_keys=True))
        body = Body(str(self.spool) if shared else "bag", str(self.place.program) if shared else self.place.program.name, self.pilot, self.site.python,
                    self.site.modules, self.site.setup, self.site.env, self.site.scratch, words, self.site.pythons, bagged=not shared)  # fmt: skip
        try:
            captured = self.batch.render(self.job)
            files = {**captured.files, self.batch.body: pilot_body(body), **({} if shared else {"bag": self.id})}
        except BadInput as error:
            raise Stopped("; ".join(error.mistakes or (error.message,)), f"`icp config set site.{self.site.name}.KEY VALUE`") from None
        if self.site.host is None:
            try:
                ship.cached(self.place.program.parent)
            except OSError as error:
                raise Stopped(f"the pilot's program cannot be put into {self.place.program.parent}: {error.strerror}", _ROOM) from None
        ordered = order("submit", {"pilot": self.pilot, "argv": list(captured.argv)}, json.dumps({"files": files}).encode())
        ordered = b"".join([*self._pythons(), ordered])
        answer = self._exchange(1, ordered)
        if answer.refused is not None:
            raise Stopped(f"the spool {self.spool} cannot be used: {answer.refused.removeprefix('unsafe: ')}",
                          f"mend it there, or `icp config set site.{self.site.name}.root DIR`")  # fmt: skip
        self._say("program", f"{self.place.program.name} is in {self.place.program.parent}")
        free = (answer.health or {}).get("free")
        self._say("spool", f"{self.base}" + (f", {free / 1e9:.1f} GB free" if isinstance(free, int) else ""))
        receipt = ((answer.applied or {}).get("submit") or {}).get(self.pilot) or {}
        code = receipt.get("rc")
        meaning = self.batch.receipt(code if isinstance(code, int) else None, str(receipt.get("out") or ""), str(receipt.get("err") or ""), self.site.options)
        if isinstance(meaning, NotSubmitted):
            raise Stopped(f"the job was not submitted: {meaning.why}", meaning.hint.replace("pilot.", f"site.{self.site.name}.pilot."))
        if isinstance(meaning, Submitted):
            self.record["job"] = meaning.job
            self._say("submit", f"job {meaning.job}" if self.site.scheduler != "none" else "started")
        else:
            self._say("submit", meaning.why, None)

    def _pythons(self) -> list[bytes]:
        """Orders that bring the Pythons which pilots would find in their spool."""
        folder, wanted = stock(self.config.places), {sha256 for _, sha256 in self.site.pythons}
        paths = [provide(folder, url, sha256, f"site.{self.site.name}.pythons") for url, sha256 in self.site.shipped if sha256 in wanted]
        return [order("blob", {"sha256": path.name}, path.read_bytes()) for path in paths]

    def _logout(self) -> None:
        """A process is left behind at the login node, which the check needs in any case, and looked for after the logout."""
        outcome = self.program.run(["canary", "watch", "--spool", str(self.spool), "--seconds", str(PATIENCE)], 60)
        if not isinstance(outcome, Result) or outcome.code != 0:
            why = outcome.why if isinstance(outcome, Unknown) else _last(outcome)
            raise Stopped(f"a process could not be started at the login node: {why}", _ROOM)
        if isinstance(self.way, OpenSSH) and self.way.connections:
            self.way.close()  # this very process opened it

    # -- what comes of it ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """One look: the batch system's word, and what both sides wrote."""
        if self.over:
            return
        try:
            self._look()
        except Stopped as end:
            self._stop(*end.args)

    def _look(self) -> None:
        ledger = self.id
        left = {self.pilot: str(self.record["job"])} if self.record["job"] and self.record.get("missing") else {}
        questions = self.batch.questions(ledger, list(left.values()), self.site.accounting)
        answer = self._exchange(1, None, Query(batch=questions))
        states = self.batch.states(ledger, answer.batch, left) if len(answer.batch) == len(questions) else Unknown("the answer broke off")
        outcome = self.program.run(["canary", "look", "--spool", str(self.spool), "--pilot", self.pilot], 60)
        if isinstance(outcome, Unknown) or outcome.code != 0:
            return  # the next look sees more
        seen = json.loads(outcome.out)
        self._watcher(seen)
        if not self.site.shared:
            if isinstance(seen.get("back"), dict):
                self._carried(seen["back"])
            else:
                self._waits(states, seen)
            return
        if seen.get("hello") and not self._said("started"):
            hello = seen["hello"]
            self.record["job"] = self.record["job"] or (states[self.pilot].job if not isinstance(states, Unknown) and self.pilot in states else None)
            self._say("started", f"on {hello['host']}")
            self._say("worker", f"python {hello['python']} ({hello['executable']}), {hello['cpus']} cpus")
            self._say("sees", f"{hello['host']} sees the spool")
        if seen.get("software") and not self._said("platform"):
            self._software(seen["software"])
        if seen.get("result"):
            self._measured(seen["result"])
            return
        if not seen.get("hello"):
            self._waits(states, seen)
        elif not isinstance(states, Unknown) and self.pilot not in states and self._long_gone():
            raise Stopped("the job ended before the measurements did", "try it again: `icp site check`; a walltime of some minutes is enough")

    def _software(self, found: Mapping[str, Any]) -> None:
        """The ways to software that the node has, and those that it has not with the reason: judged by nobody, as not all tasks want it."""
        self._say("platform", f"{found.get('platform')}: of several tarballs the best that this satisfies is taken")
        shows = found.get("shows") or {}
        for way, lacks in found.get("ways") or ():
            well = f"shows {shows[way]}" if way in shows else "can be tried there"
            self._say("software", f"{way}: {lacks or well}", None if lacks else True)
        if found.get("why"):
            self._say("software", f"ways to it could not be looked for: {found['why']}", None)
        for name, why in (found.get("has") or {}).items():
            self._say(str(name), str(why) or HAS.get(name, "there"), None if why else True)

    def _watcher(self, seen: Mapping[str, Any]) -> None:
        """What became of the process at the login node. Where it ended, this conversation takes its part."""
        word = seen.get("watcher")
        if self.site.host is not None and not self._said("logout"):
            if word in ("running", "done"):
                self._say("logout", "a process of ours lives on at the login node after the logout")
            elif word == "ended":
                serious = self.site.scheduler == "none"
                self._say("logout", "processes at the login node are ended at the logout"
                          + (": pilots would be too, so this host cannot be a site without a batch system" if serious else "; pilots are not touched by that"),
                          False if serious else None)  # fmt: skip
            elif word == "elsewhere":
                self._say("logout", "another login node answered: whether processes live on after the logout is not known", None)
        if seen.get("hello") and word == "ended" and not seen.get("result"):
            self.program.run(["canary", "meet", "--spool", str(self.spool), "--seconds", "30"], 150)

    def _waits(self, states: Mapping[str, Known] | Unknown, seen: Mapping[str, Any]) -> None:
        if isinstance(states, Unknown):
            self._word(f"batch system: {states.why}")
            return
        known = states.get(self.pilot)
        if known is not None and known.never:
            raise Stopped(f"the job waits for what never comes ({known.reason})", known.never.replace("site.NAME", f"site.{self.site.name}"))
        if known is not None and known.word in ("pending", "running", "unknown"):
            self.record.pop("missing", None)
            self._word(f"{known.word}: {known.reason}" if known.reason else known.word)
            return
        if not self._long_gone():
            return
        said = _lines(str(seen.get("err") or "")) or _lines(str(seen.get("out") or ""))
        how = "" if known is None else f" ({known.reason or ('exit ' + str(known.exit) if known.exit is not None else 'no exit code')})"
        if said:
            raise Stopped(f"the job ended{how} before it could say hello: {said[-1][:300]}", self._mend(said[-1]))
        if not self.site.shared:
            raise Stopped(f"the job ended{how}, and nothing came back of it", "look into the job's log with the pool's own tools, and try again")
        place = f"`icp config set site.{self.site.name}.root DIR`, with a place that login node and workers share"
        if known is None and self.site.scheduler == "pbs":
            # a routing queue drops what no queue behind it takes, after it was submitted, and keeps no record
            raise Stopped(
                f"the job is gone, and left nothing in {self.spool}: either no queue behind a routing queue took it, or its node does not see that directory",
                f"compare site.{self.site.name}.pilot with `qstat -Qf` there (resources_max, route_destinations); otherwise {place}",
            )
        raise Stopped(f"the job ended{how} and left nothing in {self.spool}: its node does not see that directory", place)

    def _mend(self, said: str) -> str:
        if "no Python" in said:
            return f"`icp config set site.{self.site.name}.python /path/to/python3`, or modules = [...] of that site"
        return "look into what it printed, and into the site's modules and setup"

    def _long_gone(self) -> bool:
        """Whether the job has been gone for longer than a file system may hide what it wrote."""
        since = self.record.setdefault("missing", time.time())
        return bool(time.time() - since > (GRACE if self.site.scheduler != "none" else 5))

    def _carried(self, hello: Mapping[str, Any]) -> None:
        """The job is over: what it took along was there, and what it made came back."""
        self._say("started", f"on {hello['host']}")
        self._say("worker", f"python {hello['python']} ({hello['executable']}), {hello['cpus']} cpus")
        if hello.get("came") != self.id:
            raise Stopped("what the job took along did not arrive as it was sent", "the pool's file transfer does not work: ask the site")
        self.record["found"] = {"worker": hello["host"]}
        self._say("carried", "what a job takes along arrives, and what it makes comes back")
        self._end("ok")

    def _measured(self, result: Mapping[str, Any]) -> None:
        if not result.get("ok"):
            raise Stopped(str(result.get("why")), "the job may have been ended, or the file system is very slow; try again")
        self.record["found"] = {key: result[key] for key in ("there", "back", "lag", "skew", "skew_error", "login")} | {"worker": result["hello"]["host"]}
        self._say("rename", "files appear whole, in both directions")
        excl = bool(result["there"]["excl"] and result["back"]["excl"])
        self._say("exclusive", "a file made with O_EXCL is made once" if excl else "two hosts could make the same file with O_EXCL", excl)
        locks = (result["there"]["lock"], result["back"]["lock"])
        if locks == (True, True):
            self._say("locks", "file locks hold between login node and worker")
        else:
            said = "there are no file locks" if None in locks else "file locks do not hold between hosts"
            self._say("locks", f"{said}: exchanges of several login nodes rely on them, always use the same one", None)
        lag = float(result["lag"])
        self._say("lag", f"what one writes the other sees, there and back, within {lag:.2f} s", True if lag < LAG else None)
        skew, error = float(result["skew"]), float(result["skew_error"])
        way = "ahead" if skew > 0 else "behind"
        self._say("clock", f"the worker's clock is {abs(skew):.2f} s {way} (± {error:.2f} s)", True if abs(skew) < SKEW else None)
        failed = [one for one in self.record["steps"] if one["ok"] is False]
        if failed:
            raise Stopped(failed[0]["text"], "pilots cannot work there like this")
        self._end("ok")

    # -- the end ------------------------------------------------------------------------------------------------

    def give_up(self, why: str) -> None:
        """Cancel the job and take everything away."""
        if not self.over:
            self._stop(why, "")

    def _stop(self, why: str, hint: str) -> None:
        self.record["why"], self.record["hint"] = why, hint
        self._end("failed")

    def _end(self, state: str) -> None:
        """Clean up, as far as the host lets us; what stays is told."""
        left = self._clean(cancel=state != "ok")
        if left:
            self._say("left", left, None)
        self.record["state"], self.record["ended"] = state, time.time()
        self._keep()

    def _clean(self, *, cancel: bool) -> str:
        if not self._said("spool"):
            return ""  # nothing was made, or nobody answered
        if cancel and self.record["job"]:
            argv = self.batch.cancel(batch_name(self.id, self.pilot), (str(self.record["job"]),), self.site.options)
            self._send(2, order("kill", {"pilot": self.pilot, "argv": argv}))
        outcome: Any = None
        for _ in range(20):
            outcome = self.program.run(["clear", "--root", str(self.base / "check"), "--ledger", self.id, "--check"], 60)
            if isinstance(outcome, Result) and outcome.code == 0:
                return ""
            time.sleep(0.2)  # the job may still write its last lines
        return f"{self.spool} could not be removed there: {outcome.why if isinstance(outcome, Unknown) else _last(outcome)}"

    # -- talk ---------------------------------------------------------------------------------------------------

    def _send(self, serial: int, ordered: bytes | None, query: Query | None = None) -> Answer | Unknown:
        orders = None if ordered is None else (ordered, sha256(ordered).hexdigest())
        hello = Hello(self.id, 1, serial, orders, new=serial == 1 and ordered is not None)
        return SpoolClient(self.way, self.site.env).exchange([Talk(self.place, hello, query or Query())])[0]

    def _exchange(self, serial: int, ordered: bytes | None, query: Query | None = None) -> Answer:
        answer = self._send(serial, ordered, query)
        if isinstance(answer, Unknown):
            if ordered is None:
                raise trouble_of(self.site, self.way, answer.why)
            full = "No space left" in answer.why or "quota exceeded" in answer.why.lower()
            raise Stopped(f"the spool {self.spool} could not be made: {answer.why}", _ROOM if full else "look at that place there, or choose another root")
        if answer.refused == "no spool":
            raise Stopped(f"the place of the check is gone: {self.spool}", "try again: `icp site check`")
        return answer

    def _say(self, name: str, text: str, ok: bool | None = True) -> None:
        step = Step(name, text, ok)
        self.record["steps"].append({"name": name, "text": text, "ok": ok, "t": time.time()})
        self._keep()
        self.told(step)

    def _word(self, word: str) -> None:
        """The batch system's word, told when it changes."""
        if self.record["word"] != word:
            self.record["word"] = word
            self._keep()
            self.told(Step("waits", word, None))

    def _said(self, name: str) -> bool:
        return any(one["name"] == name for one in self.record["steps"])

    def _keep(self) -> None:
        path = _path(self.config, self.site.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(json.dumps(self.record), encoding="utf-8")
        part.replace(path)


_ROOM = "make room there (`df` and `quota` tell where), or choose another root"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _last(outcome: Result) -> str:
    said = _lines(outcome.err.decode("utf-8", "replace"))
    return said[-1][:300] if said else f"exit {outcome.code}"


def site_of(config: Config, name: str) -> Site:
    """The configured site; NotFound names those that there are."""
    if name not in config.sites:
        raise NotFound(f"there is no site {name!r} in {config.places.config}", f"there are {', '.join(config.sites)}; `icp site add {name}` adds one")
    return config.sites[name]
