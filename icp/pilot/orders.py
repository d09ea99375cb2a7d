"""What the engine orders, done so that doing it twice is doing it once (hides each order's steps and what is kept to
repeat an answer).

Every order is applied from ``incoming/<serial>/``: a file that was moved from there is not there any more, and what an
answer needs to know of a step that cannot be repeated (a submit, a kill, a fence) is written down before or with the
step.
"""

import errno
import json
import os
import subprocess
import sys

from . import faults, framing, journal, spool
from .disk import Disk, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OrderError", "Orders", "begun_attempts", "run_command", "unpack"]

SUBMIT_TIMEOUT = 60.0
"""Seconds that a batch system has to answer a submit or a kill."""
_CARRIED = ("need", "blob", "card")


class OrderError(Exception):
    """An order that cannot be what an engine sends."""


def run_command(argv: "list[str]", folder: "str | None", timeout: float, limit: int) -> "dict[str, Any]":
    """Runs a command with nothing on its input: {"rc": int or None (no end in time), "out", "err"}, each at most
    ``limit`` bytes.

    Output goes through files, so that a process which the command leaves behind holds nobody up.
    """
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder)
        except (OSError, ValueError) as error:
            return {"rc": 127, "out": "", "err": f"{argv[0] if argv else ''}: {error}"}
        rc: int | None = None
        try:
            rc = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(limit).decode("utf-8", "replace"))
    return {"rc": rc, "out": texts[0], "err": texts[1]}


def unpack(folder: str, frames: "list[framing.Frame]", disk: Disk) -> None:
    """Writes the orders into this folder, which does not exist: the carried things as files, ``orders.json`` with
    all of them in order.
    """
    disk.mkdir(folder)
    listed = []
    for number, (kind, meta, body) in enumerate(frames):
        if not isinstance(meta, dict):
            raise OrderError(f"{kind}: META is not an object")
        _check(kind, meta)
        if kind in _CARRIED:
            disk.create(f"{folder}/{number}", body)
        elif kind == "submit" and body:
            meta = dict(json.loads(body.decode("utf-8")), **meta)
        listed.append([kind, meta])
    disk.create(folder + "/orders.json", json.dumps(listed).encode("ascii"))
    disk.sync_folder(folder)


def _check(kind: str, meta: "dict[str, Any]") -> None:
    """Refuses names that must not become paths; BadName or OrderError."""
    if kind == "need":
        spool.check_id(meta.get("id"))
    elif kind == "blob":
        spool.check_digest(meta.get("sha256"))
    elif kind == "card":
        spool.split_card_name(str(meta.get("name")))
    elif kind == "recall":
        spool.check_id(spool.card_id(str(meta.get("card"))))
        if "-" in meta["card"]:
            spool.split_card_name(meta["card"])
    elif kind in ("fence", "ack"):
        spool.check_agent(meta.get("agent"))
        if kind == "ack" and (
            meta.get("stream") not in ("journal", "supervisor") or type(meta.get("segment")) is not int
        ):
            raise OrderError(f"ack names no stream and segment: {meta!r}")
    elif kind == "cancel" or (kind == "drop" and "attempt" in meta):
        spool.check_id(meta.get("attempt"))
    elif kind == "drop" and "pilot" in meta:
        spool.check_id(meta["pilot"])
    elif kind == "drop" and "sha256" in meta:
        spool.check_digest(meta["sha256"])
    elif kind == "drop":
        spool.check_id(meta.get("card"))
    elif kind in ("drain", "submit", "kill", "gather"):
        spool.check_id(meta.get("pilot"))
        if "bag" in meta:
            spool.split_card_name(str(meta["bag"]))
    else:
        raise OrderError(f"no order is called {kind!r}")


class Orders:
    """Applies one committed ``incoming/<serial>``; ``answer`` is what goes to the engine."""

    def __init__(self, where: spool.Spool, serial: int, disk: Disk) -> None:
        self.spool, self.serial, self.disk = where, serial, disk
        self.folder = f"{where.incoming}/{serial}"
        self.answer: dict[str, Any] = {"serial": serial, "recall": {}, "fence": {}, "submit": {}, "kill": {}, "gather": {}}
        self._ids: dict[str, str] | None = None

    def apply(self) -> "dict[str, Any]":
        with open(self.folder + "/orders.json", "rb") as stream:
            listed = json.loads(stream.read().decode("ascii"))
        touched = set()
        for number, (kind, meta) in enumerate(listed):
            source = f"{self.folder}/{number}"
            if kind in _CARRIED:
                target = self._target(kind, meta)
                touched.add(os.path.dirname(target))
                self._move(kind, source, target, meta)
            else:
                getattr(self, "_" + kind)(meta)
            faults.visit("exchange.moved:" + kind)
        for folder in touched:
            self.disk.sync_folder(folder)
        return self.answer

    # --- carried things

    def _target(self, kind: str, meta: "dict[str, Any]") -> str:
        if kind == "need":
            return self.spool.need(meta["id"])
        if kind == "blob":
            return self.spool.blob(meta["sha256"])
        return f"{self.spool.inbox}/{meta['name']}"

    def _move(self, kind: str, source: str, target: str, meta: "dict[str, Any]") -> None:
        if kind == "blob" and os.path.exists(source):
            import hashlib

            digest = hashlib.sha256()
            with open(source, "rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
            if digest.hexdigest() != meta["sha256"]:
                # The digest of all orders was right: the engine itself named it wrongly, and sends no other bytes next
                # time.
                self.answer.setdefault("blob", {})[meta["sha256"]] = "wrong checksum"
                return
        try:
            self.disk.rename(source, target)
        except OSError as error:
            # Moved before this exchange was interrupted, or NFS answered so after it had done it.
            if error.errno != errno.ENOENT:
                raise

    # --- recalls and fences

    def _recall(self, meta: "dict[str, Any]") -> None:
        given = meta["card"]
        card = spool.card_id(given)
        name = given if "-" in given else self._names().get(card, "")
        done = f"{self.spool.recalled}/{card}"
        if name:
            try:
                self.disk.rename(f"{self.spool.inbox}/{name}", done)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        if not os.path.exists(done):
            self._recall_from_fenced(card, done)
        self.answer["recall"][given] = "recalled" if os.path.exists(done) else "claimed"

    def _names(self) -> "dict[str, str]":
        """Card names in the inbox by id, read once."""
        if self._ids is None:
            self._ids = {spool.card_id(name): name for name in os.listdir(self.spool.inbox)}
        return self._ids

    def _recall_from_fenced(self, card: str, done: str) -> None:
        for agent in os.listdir(self.spool.fenced):
            folder = f"{self.spool.fenced}/{agent}"
            for name in claimed(folder):
                if spool.card_id(name) == card and not is_begun(folder + "/claimed/" + name, begun_attempts(folder)):
                    self.disk.rename(folder + "/claimed/" + name, done)
                    return

    def _fence(self, meta: "dict[str, Any]") -> None:
        agent = meta["agent"]
        source, target = self.spool.agent(agent), f"{self.spool.fenced}/{agent}"
        try:
            self.disk.rename(source, target)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not os.path.isdir(target):
            self.answer["fence"][agent] = {"began": [], "unbegun": [], "gone": True}
            return
        self.answer["fence"][agent] = recall_unbegun(self.spool, agent, self.disk)

    # --- files that say something to agents

    def _touch(self, path: str) -> None:
        try:
            self.disk.create(path, b"", sync=False)
        except FileExistsError:
            pass

    def _cancel(self, meta: "dict[str, Any]") -> None:
        self._touch(f"{self.spool.cancel}/{meta['attempt']}")

    def _drain(self, meta: "dict[str, Any]") -> None:
        self._touch(f"{self.spool.drain}/{meta['pilot']}")

    # --- the batch system

    def _submit(self, meta: "dict[str, Any]") -> None:
        pilot = meta["pilot"]
        folder = self.spool.pilot(pilot)
        receipt = folder + "/receipt.json"
        try:
            self.disk.mkdir(folder)
        except FileExistsError:
            self.disk.forget_unfinished(folder)
        if not os.path.exists(receipt):
            self.answer["submit"][pilot] = self._submit_once(folder, receipt, meta)
        else:
            with open(receipt, "rb") as stream:
                self.answer["submit"][pilot] = json.loads(stream.read().decode("utf-8"))

    def _submit_once(self, folder: str, receipt: str, meta: "dict[str, Any]") -> "dict[str, Any]":
        import time

        if not os.path.isdir(folder + "/.submit"):
            # What a full disk or a kill interrupts up to here is simply done again.
            for name, text in sorted(meta.get("files", {}).items()):
                if "/" in spool.check_name(name):
                    raise OrderError(f"a submit's file lies directly in the pilot's folder: {name!r}")
                self.disk.put(f"{folder}/{name}", text.encode("utf-8"))
            if "bag" in meta:
                from . import bag

                try:
                    bag.fill(self.spool, meta["pilot"], meta["bag"], meta["files"]["pilot.json"].encode("utf-8"), self.disk)
                except bag.Absent as error:
                    return {"rc": 1, "out": "", "err": str(error), "t": round(time.time(), 3)}
        try:
            self.disk.mkdir(folder + "/.submit")
        except FileExistsError:
            # An exchange died between the two: whether the batch system took it, its own listing must tell.
            return {"rc": None, "out": "", "err": "interrupted while submitting", "t": round(time.time(), 3)}
        result = run_command(self._argv(meta, folder), folder, SUBMIT_TIMEOUT, 64 * 1024)
        result["t"] = round(time.time(), 3)
        self.disk.put(receipt, json.dumps(result).encode("ascii"))
        return result

    def _gather(self, meta: "dict[str, Any]") -> None:
        from . import bag

        answer = bag.gather(self.spool, meta["pilot"], self.disk)
        if answer["how"] == "recalled":
            self._touch(f"{self.spool.recalled}/{answer['card']}")
        self.answer["gather"][meta["pilot"]] = answer

    def _kill(self, meta: "dict[str, Any]") -> None:
        pilot = meta["pilot"]
        noted = f"{self.folder}/kill.{pilot}"
        if os.path.exists(noted):
            with open(noted, "rb") as stream:
                self.answer["kill"][pilot] = json.loads(stream.read().decode("ascii"))
            return
        folder = self.spool.pilot(pilot)
        result = run_command(self._argv(meta, folder), None, SUBMIT_TIMEOUT, 64 * 1024)
        self.disk.put(noted, json.dumps(result).encode("ascii"))
        self.answer["kill"][pilot] = result

    def _argv(self, meta: "dict[str, Any]", folder: str) -> "list[str]":
        return fill(meta["argv"], self.spool.root, folder)

    # --- what is not needed any more

    def _drop(self, meta: "dict[str, Any]") -> None:
        if "attempt" in meta:
            attempt = meta["attempt"]
            paths = [self.spool.stored(attempt), f"{self.spool.cancel}/{attempt}", self.spool.tail(attempt)]
            paths.append(self.spool.tail(attempt) + ".tmp")
        elif "pilot" in meta:
            paths = [self.spool.pilot(meta["pilot"]), f"{self.spool.drain}/{meta['pilot']}"]
        elif "sha256" in meta:
            paths = [self.spool.blob(meta["sha256"]), self.spool.blob(meta["sha256"]) + ".part"]
        else:
            paths = [self.spool.log(meta["card"]), f"{self.spool.recalled}/{meta['card']}"]
        for path in paths:
            remove_tree(path)

    def _ack(self, meta: "dict[str, Any]") -> None:
        agent, stream, last = meta["agent"], meta["stream"], meta["segment"]
        folder, fenced = self.spool.agent(agent), False
        if not os.path.isdir(folder):
            folder, fenced = f"{self.spool.fenced}/{agent}", True
        if not os.path.isdir(folder):
            return
        over = fenced or has_ended(folder)
        found = journal.segments(folder, stream)
        for segment, _ in found:
            if segment <= last and (over or segment != found[-1][0]):
                # The number of an ended stream's end stays known until the folder goes.
                self.disk.unlink(f"{folder}/{stream}.{segment}")
                if over:
                    self._touch(folder + "/ended")
        if over and not journal.segments(folder, "journal") and not journal.segments(folder, "supervisor"):
            remove_tree(folder)


def fill(argv: "list[Any]", root: str, folder: "str | None") -> "list[str]":
    """The command with ``{python}``, ``{program}``, ``{dir}`` and ``{spool}`` replaced."""
    if not isinstance(argv, list) or not all(isinstance(part, str) for part in argv):
        raise OrderError(f"a command must be a list of strings: {argv!r}")
    known = {
        "{python}": sys.executable,
        "{program}": os.path.abspath(sys.argv[0]),
        "{spool}": root,
        "{dir}": folder or root,
    }
    filled = []
    for part in argv:
        for name, value in known.items():
            part = part.replace(name, value)
        filled.append(part)
    return filled


# --- what an agent's folder tells


def claimed(folder: str) -> "list[str]":
    """File names of the cards in an agent's folder."""
    try:
        return sorted(name for name in os.listdir(folder + "/claimed") if name.count("-") == 2)
    except OSError:
        return []


def read_stream(folder: str, stream: str) -> "list[dict[str, Any]]":
    """All facts of a stream, from the oldest segment that is left."""
    chunks = []
    for segment, _ in journal.segments(folder, stream):
        with open(f"{folder}/{stream}.{segment}", "rb") as source:
            chunks.append((segment, 0, source.read()))
    return spool.take(spool.BEGIN, chunks, oldest=True)[0]


def has_ended(folder: str) -> bool:
    """Whether the agent's own last fact, or its supervisor, says that it is gone."""
    if os.path.exists(folder + "/ended"):
        return True
    if any(fact.get("f") == "agent_died" for fact in read_stream(folder, "supervisor")):
        return True
    facts = read_stream(folder, "journal")
    return bool(facts) and facts[-1].get("f") == "stopped"


def begun_attempts(folder: str) -> "set[str]":
    """The attempts that a fact says were begun."""
    begun: set[str] = set()
    for fact in read_stream(folder, "journal"):
        name = fact.get("f")
        if name in ("staging", "running", "storing") or (name == "ended" and fact.get("r") != "returned"):
            begun.add(str(fact.get("a")))
    return begun


def is_begun(path: str, begun: "set[str]") -> bool:
    """Whether one of the attempts of the card in this file is among the begun ones; a card that cannot be read is."""
    try:
        with open(path, "rb") as stream:
            card = json.loads(stream.read().decode("utf-8"))
        return any(attempt["a"] in begun for attempt in card["attempts"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def recall_unbegun(where: spool.Spool, agent: str, disk: Disk) -> "dict[str, list[str]]":
    """Moves the cards of a fenced agent that no fact says were begun to ``recalled/``: {"began": cards, "unbegun":
    cards}.

    Their ids stay in the agent's folder, so that the same question has the same answer however often it is interrupted.
    """
    folder = f"{where.fenced}/{agent}"
    noted = folder + "/recalled.json"
    try:
        with open(noted, "rb") as stream:
            unbegun = set(json.loads(stream.read().decode("ascii")))
    except OSError:
        unbegun = set()
    names = claimed(folder)
    begun = begun_attempts(folder) if names else set()
    move = [
        name for name in names if spool.card_id(name) in unbegun or not is_begun(folder + "/claimed/" + name, begun)
    ]
    if move:
        unbegun.update(spool.card_id(name) for name in move)
        disk.put(noted, json.dumps(sorted(unbegun)).encode("ascii"))
    for name in move:
        try:
            disk.rename(f"{folder}/claimed/{name}", f"{where.recalled}/{spool.card_id(name)}")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
    return {"began": sorted(spool.card_id(name) for name in names if name not in move), "unbegun": sorted(unbegun)}
