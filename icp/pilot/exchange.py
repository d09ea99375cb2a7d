"""The site's end of a conversation with the engine: who may speak, what was ordered, what is answered (hides
owner, lock and serials).
"""

import hashlib
import io
import json
import os
import sys
import time

from . import answers, faults, framing, node, orders, spool
from .disk import Disk, remove_tree
from .lock import Busy, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["Refused", "exchange", "main"]

_KEEP = 14 * 86400
"""Seconds that recalled cards and control files stay."""


class Refused(Exception):
    """This ledger may not order anything here; the text is the ``why`` of the answer."""

    def __init__(self, why: str, **more: "Any") -> None:
        Exception.__init__(self, why)
        self.meta = dict(more, why=why)


def main(roots: "list[str]", ledger: "str | None") -> int:
    """Reads frames on standard input, answers on standard output: one conversation for each root, in their order, with
    ``next`` before each but the first.
    """
    out, source = sys.stdout.buffer, sys.stdin.buffer
    if len(roots) == 1:
        return exchange(roots[0], ledger, source, out, Disk())
    worst = 0
    for index, said in enumerate(framing.conversations(source, len(roots))):
        if index:
            out.write(framing.frame("next", {"index": index}))
        worst = max(worst, exchange(roots[index], ledger, io.BytesIO(said), out, Disk()))
    return worst


def exchange(root: str, ledger: "str | None", source: "BinaryIO", out: "BinaryIO", disk: Disk) -> int:
    """One conversation: 0 if it was answered, 4 if refused, 1 if the site could not (a full disk: the answer has no
    ``end``).

    All of it is read before the lock is taken, so that a connection that hangs holds nobody up; journals, files and the
    batch system are read after it was given back.
    """
    answer = answers.Answer(out)
    where = spool.Spool(root)
    try:
        hello, body, query = _listen(source, ledger)
        created = _prepare(where, disk)
        with Lock(where.root):
            owner, applied = _serve(where, hello, body, disk)
            listed = answers.agents(where, query.get("fenced") or [], disk)
            _forget_old(where)
        try:
            node.clean_up(str(hello["ledger"]))
        except OSError:
            pass  # Somebody else's node directory: its agents are not ours to end.
        answer.send(
            "owner", dict(owner, created=created, host=node.host(), boot=node.boot_id(), now=round(time.time(), 3))
        )
        if applied is not None:
            answer.send("applied", applied)
        answer.send("agents", listed)
        answers.reply(answer, where, listed, query)
        answer.end()
        return 0
    except Refused as refusal:
        answer.send("refused", refusal.meta)
    except Busy as error:
        answer.send("refused", {"why": "busy", "holder": str(error)})
    except spool.Unsafe as error:
        answer.send("refused", {"why": f"unsafe: {error}"})
    except (spool.BadName, orders.OrderError) as error:
        answer.send("refused", {"why": f"bad orders: {error}"})
    except OSError as error:
        # No answer is no evidence: what was not applied will be ordered again.
        sys.stderr.write(f"exchange: {error.filename or where.root}: {error.strerror or error}\n")
        return 1
    answer.end()
    return 4


def _listen(source: "BinaryIO", ledger: "str | None") -> "tuple[dict[str, Any], list[framing.Frame], dict[str, Any]]":
    """hello, the orders and the query; Refused if the stream broke off or the orders are not the bytes that were
    promised.
    """
    frames, raw = framing.read_until_end(source)
    if not frames or frames[0].kind != "hello" or frames[-1].kind != "end":
        raise Refused("cut")
    hello = frames[0].meta
    if (
        type(hello.get("epoch")) is not int
        or type(hello.get("serial")) is not int
        or not isinstance(hello.get("ledger"), str)
    ):
        raise Refused("hello lacks ledger, epoch or serial")
    if ledger is not None and ledger != hello["ledger"]:
        raise Refused("other ledger")
    body = [one for one in frames[1:-1] if one.kind != "query"]
    promised = hello.get("orders")
    if promised is not None:
        begin = framing.first_frame_size(raw)
        carried = raw[begin : begin + promised["bytes"]]
        if hashlib.sha256(carried).hexdigest() != promised["sha256"]:
            raise Refused("the orders are not the bytes that hello promised")
        parser = framing.FrameParser()
        if len(parser.feed(carried)) != len(body) or parser.broken or parser.pending:
            raise Refused("the orders are not whole frames")
    elif body:
        raise Refused("orders that hello did not promise")
    query: dict[str, Any] = {}
    for one in frames:
        if one.kind == "query":
            query = one.meta
    return hello, body, query


def _prepare(where: spool.Spool, disk: Disk) -> bool:
    """Makes the spool if there is none (whether it did), and checks that nobody else can write to it."""
    created = False
    if not os.path.lexists(where.root):
        os.makedirs(os.path.dirname(os.path.abspath(where.root)), exist_ok=True)
        spool.check_parents(os.path.abspath(where.root))
        disk.mkdir(where.root)
        os.chmod(where.root, 0o700)
        created = True
    spool.check_root(where.root)
    for folder in where.folders():
        try:
            disk.mkdir(folder)
        except FileExistsError:
            if os.path.islink(folder):
                raise spool.Unsafe(f"{folder} is a symbolic link") from None
    return created or not os.path.exists(where.owner)


def _serve(
    where: spool.Spool, hello: "dict[str, Any]", body: "list[framing.Frame]", disk: Disk
) -> "tuple[dict[str, Any], dict[str, Any] | None]":
    """Applies what is to be applied: the owner afterwards, and the answer to these orders (None if there were none)."""
    ledger, epoch, serial = hello["ledger"], hello["epoch"], hello["serial"]
    promised = hello.get("orders")
    owner = _owner(where)
    if owner is None:
        if serial > (0 if promised is None else 1) and not hello.get("new"):
            # A ledger that talked to a spool before, and finds none: it is a copy, or the spool is gone. Both want a
            # person.
            raise Refused("no spool")
        owner = {"ledger": ledger, "epoch": epoch, "serial": serial if promised is None else serial - 1, "digest": ""}
        _discard_incoming(where)
        _write_owner(where, owner, disk)
    if owner["ledger"] != ledger:
        raise Refused("other ledger", ledger=owner["ledger"])
    owner = _finish_leftovers(where, owner, disk)
    if epoch < owner["epoch"]:
        raise Refused("copy", epoch=owner["epoch"], serial=owner["serial"])
    if epoch > owner["epoch"]:
        for name in os.listdir(where.applied):
            disk.unlink(f"{where.applied}/{name}")
        owner = {"ledger": ledger, "epoch": epoch, "serial": serial if promised is None else serial - 1, "digest": ""}
        _write_owner(where, owner, disk)
    if promised is None:
        if serial != owner["serial"]:
            raise Refused(
                "behind" if serial < owner["serial"] else "ahead", epoch=owner["epoch"], serial=owner["serial"]
            )
        return _told(owner), None
    digest = promised["sha256"]
    if serial == owner["serial"]:
        if digest != owner["digest"]:
            raise Refused("copy", epoch=owner["epoch"], serial=owner["serial"])
    elif serial != owner["serial"] + 1:
        raise Refused("behind" if serial < owner["serial"] else "ahead", epoch=owner["epoch"], serial=owner["serial"])
    else:
        folder = f"{where.incoming}/{serial}"
        orders.unpack(folder + ".tmp", body, disk)
        disk.create(folder + ".tmp/hello.json", json.dumps({"epoch": epoch, "digest": digest}).encode("ascii"))
        faults.visit("exchange.tmp")
        disk.rename(folder + ".tmp", folder)
        disk.sync_folder(where.incoming)
        faults.visit("exchange.renamed")
        owner = _apply(where, owner, serial, disk)
    with open(f"{where.applied}/{serial}.json", "rb") as stream:
        return _told(owner), json.loads(stream.read().decode("ascii"))


def _told(owner: "dict[str, Any]") -> "dict[str, Any]":
    return {key: owner[key] for key in ("ledger", "epoch", "serial")}


def _owner(where: spool.Spool) -> "dict[str, Any] | None":
    try:
        with open(where.owner, "rb") as stream:
            return json.loads(stream.read().decode("ascii"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except ValueError:
        raise Refused(f"the spool's owner file cannot be read: {where.owner}") from None


def _write_owner(where: spool.Spool, owner: "dict[str, Any]", disk: Disk) -> None:
    disk.put(where.owner, json.dumps(owner, sort_keys=True).encode("ascii"))


def _apply(where: spool.Spool, owner: "dict[str, Any]", serial: int, disk: Disk) -> "dict[str, Any]":
    """Carries a committed ``incoming/<serial>`` to its end: things moved, answer kept, owner written, incoming
    removed.
    """
    folder = f"{where.incoming}/{serial}"
    with open(folder + "/hello.json", "rb") as stream:
        said = json.loads(stream.read().decode("ascii"))
    told = orders.Orders(where, serial, disk).apply()
    disk.put(f"{where.applied}/{serial}.json", json.dumps(told).encode("ascii"))
    faults.visit("exchange.applied")
    owner = dict(owner, serial=serial, digest=said["digest"])
    _write_owner(where, owner, disk)
    faults.visit("exchange.owner")
    remove_tree(folder)
    for name in os.listdir(where.applied):
        if name != f"{serial}.json":
            disk.unlink(f"{where.applied}/{name}")
    faults.visit("exchange.removed")
    return owner


def _finish_leftovers(where: spool.Spool, owner: "dict[str, Any]", disk: Disk) -> "dict[str, Any]":
    for folder in (where.root, where.applied):
        disk.forget_unfinished(folder)
    for name in os.listdir(where.incoming):
        path = f"{where.incoming}/{name}"
        if not name.isdigit():
            remove_tree(path)
        elif int(name) == owner["serial"] + 1 and _epoch_of(path) == owner["epoch"]:
            owner = _apply(where, owner, int(name), disk)
        else:
            # ``owner`` was written: only the removal is missing.
            remove_tree(path)
    return owner


def _epoch_of(folder: str) -> int:
    try:
        with open(folder + "/hello.json", "rb") as stream:
            return int(json.loads(stream.read().decode("ascii"))["epoch"])
    except (OSError, ValueError, KeyError):
        return -1


def _discard_incoming(where: spool.Spool) -> None:
    for name in os.listdir(where.incoming):
        remove_tree(f"{where.incoming}/{name}")


def _forget_old(where: spool.Spool) -> None:
    """Removes recalled cards and control files that nobody asks for any more; once a day."""
    stamp = where.root + "/swept"
    now = time.time()
    try:
        if now - os.stat(stamp).st_mtime < 86400:
            return
    except OSError:
        pass
    with open(stamp, "wb"):
        pass
    for folder in (where.recalled, where.cancel, where.drain):
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            try:
                if now - os.stat(path).st_ctime > _KEEP:
                    os.unlink(path)
            except OSError:
                pass
