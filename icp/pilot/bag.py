"""A spool of its own for one pilot whose worker shares no file system with the site: filled, run there, brought back
(hides what of a spool travels).

The batch system carries the *bag* (a small spool with one card) to the worker and one file, ``back``, from it: frames of
the spool's own format, each a piece of one file, closed by ``end``. What comes from a worker is read as what comes from a
stranger: every name is one that this card's attempts may have, everything is whole or nothing is taken.
"""

import errno
import json
import os
import re
import signal

from . import faults, framing, live, node, spool
from .disk import Disk, remove_tree
from .orders import read_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["BAG", "Absent", "fill", "gather", "main", "pack", "submitted"]

BAG, BACK = "bag", "back"
"""Names in the pilot's folder, and on the worker."""
PIECE = 1 << 20
_MOST_FILES = 200000
_STREAM = re.compile(r"(?:journal|supervisor)\.[0-9]{1,9}\Z")


class Absent(Exception):
    """The card is not in the inbox: it was called back."""


class Damaged(Exception):
    """What came back is not what a pilot of ours sends; the text says where."""


# --- at the site: before


def fill(where: spool.Spool, pilot: str, name: str, told: bytes, disk: Disk) -> None:
    """Makes ``pilots/<pilot>/bag``: the card moved there, what it reads as links, what the agent is told. Doing it twice
    is doing it once. Absent: somebody called the card back.
    """
    bag = spool.Spool(f"{where.pilot(pilot)}/{BAG}")
    for folder in [bag.root, *bag.folders(), bag.pilot(pilot)]:
        try:
            disk.mkdir(folder)
        except FileExistsError:
            pass
    try:
        disk.rename(f"{where.inbox}/{name}", f"{bag.inbox}/{name}")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    faults.visit("bag.card")
    try:
        with open(f"{bag.inbox}/{name}", "rb") as stream:
            card = json.loads(stream.read().decode("utf-8"))
    except FileNotFoundError:
        raise Absent(f"card {name} was called back") from None
    need = spool.split_card_name(name)[1]
    _link(where.need(need), bag.need(need), disk)
    own = {one["a"] for one in card["attempts"]}
    for one in card["attempts"]:
        tarballs = [sha256 for about in (one.get("software") or {}).values() for _, sha256 in about.get("tarballs") or ()]
        for sha256 in [*(one.get("files") or ()), *tarballs]:
            _link(where.blob(sha256), bag.blob(sha256), disk)
        for source in one.get("in") or ():
            origin = source["from"]
            if origin[0] == "cache":
                _link(where.blob(origin[1]), bag.blob(origin[1]), disk)
            elif origin[0] == "store" and origin[1] not in own:
                stored = spool.check_name(origin[2] if len(origin) > 2 else source["name"])
                _link(f"{where.stored(origin[1])}/{stored}", f"{bag.stored(origin[1])}/{stored}", disk)
    for sha256 in json.loads(told.decode("utf-8")).get("shipped") or ():
        _link(where.blob(sha256), bag.blob(sha256), disk)
    disk.put(f"{bag.pilot(pilot)}/pilot.json", told)
    faults.visit("bag.filled")


def _link(source: str, target: str, disk: Disk) -> None:
    """The same file under another name, or a copy. What is not there is missed, and told, by the agent."""
    folder = os.path.dirname(target)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        os.link(source, target)
        return
    except FileExistsError:
        return
    except OSError as error:
        if not os.path.exists(source):
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
    with open(source, "rb") as stream, open(target + ".part", "wb") as out:
        for block in iter(lambda: stream.read(PIECE), b""):
            out.write(block)
    disk.rename(target + ".part", target)


# --- on the worker


def main(root: str, pilot: str, index: int) -> int:
    """Runs an agent on the bag in ``root``, and writes ``back`` beside it when that has ended, however it has; the agent's
    exit code.
    """
    root = os.path.abspath(root)
    back = f"{os.path.dirname(root)}/{BACK}"
    where = spool.Spool(root)
    for folder in [root, *where.folders()]:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
    inputs = set(_below(where.store))
    stop: list[int] = []
    child = 0

    def forward(number: int, _: "Any") -> None:
        # The supervisor ignores it: it is for the agent, whose parent that is.
        stop.append(number)
        for pid in node.children(child) if child else ():
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError:
                pass

    signal.signal(signal.SIGTERM, forward)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = 1
        try:
            from . import supervisor

            code = supervisor.main(root, pilot, index)
        finally:
            os._exit(code)
    if stop:
        forward(signal.SIGTERM, None)
    teller = live.Teller(where)
    teller.start()
    while True:
        try:
            status = os.waitpid(child, 0)[1]
            break
        except InterruptedError:
            pass
    teller.stop()
    pack(where, inputs, back)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1


def pack(where: spool.Spool, inputs: "set[str]", back: str) -> None:
    """Writes everything that the site shall have but what lay in the store before: files first, journals behind them."""
    with open(back + ".tmp", "wb") as out:
        for name in _below(where.store):
            if name not in inputs:
                _write(out, where.root, "store/" + name)
        for name in _below(where.logs):
            if "." not in name:
                _write(out, where.root, "logs/" + name)
        for name in _below(where.agents):
            if _STREAM.match(name.partition("/")[2]):
                _write(out, where.root, "agents/" + name)
        out.write(framing.frame("end", {}))
        out.flush()
        os.fsync(out.fileno())
    os.rename(back + ".tmp", back)


def _below(root: str) -> "Iterator[str]":
    """Relative paths of regular files."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = f"{folder}/{name}"
            if os.path.isfile(path) and not os.path.islink(path):
                yield path[len(root) + 1 :]


def _write(out: "Any", root: str, name: str) -> None:
    with open(f"{root}/{name}", "rb") as source:
        size, offset = os.fstat(source.fileno()).st_size, 0
        while True:
            data = source.read(min(PIECE, size - offset))
            out.write(framing.frame("file", {"name": name, "size": size, "offset": offset}, data))
            offset += len(data)
            if offset >= size:
                return
            if not data:
                raise OSError(errno.EIO, f"{name} became shorter")


# --- at the site: behind


def submitted(where: spool.Spool) -> "Iterator[tuple[dict[str, Any], bytes]]":
    """Every pilot whose card was put into a bag, for a ledger that forgot some: ({"pilot", "name": of the card while its bag was not gathered, or None,
    "gathered": what ``gather`` answered, or None, "receipt", "told"}, the card's content).
    """
    for pilot in sorted(_names(where.pilots)):
        folder = f"{where.pilots}/{pilot}"
        gathered = _read_json(folder + "/gathered.json")
        names = [] if gathered else [name for name in _names(f"{folder}/{BAG}/inbox") if name.count("-") == 2]
        if not names and not gathered:
            continue
        card = b""
        try:
            if names:
                with open(f"{folder}/{BAG}/inbox/{names[0]}", "rb") as stream:
                    card = stream.read()
        except OSError:
            continue
        about = {"pilot": pilot, "name": names[0] if names else None, "gathered": gathered}
        yield dict(about, receipt=_read_json(folder + "/receipt.json"), told=_read_json(folder + "/pilot.json")), card


def _read_json(path: str) -> "Any":
    try:
        with open(path, "rb") as stream:
            return json.loads(stream.read().decode("utf-8"))
    except (OSError, ValueError):
        return None


def gather(where: spool.Spool, pilot: str, disk: Disk) -> "dict[str, Any]":
    """Takes what a pilot's batch job, which has ended, left in ``back``: {"card": its id or None, "how": "recalled" (no
    agent told that it took the card), "claimed", "done" (all of it is told), or "none", "back": "whole", "empty", "none",
    or what is wrong with it}. Interrupted anywhere, it is done again, and the answer stays the same.
    """
    folder = where.pilot(pilot)
    noted = folder + "/gathered.json"
    if not os.path.exists(noted):
        disk.put(noted, json.dumps(_gather(where, pilot, folder, disk)).encode("ascii"))
        faults.visit("bag.noted")
    for name in (BAG, BACK, BACK + ".d"):
        remove_tree(f"{folder}/{name}")
    with open(noted, "rb") as stream:
        answer: dict[str, Any] = json.loads(stream.read().decode("ascii"))
    return answer


def _gather(where: spool.Spool, pilot: str, folder: str, disk: Disk) -> "dict[str, Any]":
    bag = spool.Spool(f"{folder}/{BAG}")
    names = [name for name in _names(bag.inbox) if name.count("-") == 2]
    if not names:
        try:
            disk.mkdir(folder)
        except FileExistsError:
            pass
        return {"card": None, "how": "none", "back": "none"}
    name = names[0]
    card = spool.card_id(name)
    with open(f"{bag.inbox}/{name}", "rb") as stream:
        attempts = {str(one["a"]) for one in json.loads(stream.read().decode("utf-8"))["attempts"]}
    new = spool.Spool(f"{folder}/{BACK}.d")
    remove_tree(new.root)
    disk.mkdir(new.root)
    said = _read(f"{folder}/{BACK}", new, pilot, card, attempts, disk)
    if said != "whole":
        remove_tree(new.root)
    faults.visit("bag.unpacked")
    how, told = "recalled", set()
    for agent in sorted(_names(new.agents)):
        facts = read_stream(f"{new.agents}/{agent}", "journal")
        told |= {str(fact.get("a")) for fact in facts if fact.get("f") == "ended"}
        disk.mkdir(f"{new.agents}/{agent}/claimed")
        if how == "recalled" and any(fact.get("f") == "claimed" and fact.get("card") == card for fact in facts):
            how = "claimed"
            # The ledger learns from it what its agent took, and what ends with that agent.
            os.link(f"{bag.inbox}/{name}", f"{new.agents}/{agent}/claimed/{name}")
    if how == "claimed" and attempts <= told:
        how = "done"
        for agent in _names(new.agents):
            remove_tree(f"{new.agents}/{agent}/claimed/{name}")
    # Files first: a journal never tells of one that is not there.
    for parent, target in ((new.store, where.store), (new.logs, where.logs), (new.agents, where.agents)):
        for one in sorted(_names(parent)):
            if parent != new.agents or not os.path.exists(f"{where.fenced}/{one}"):
                _place(f"{parent}/{one}", f"{target}/{one}", disk)
            faults.visit("bag.placed")
        disk.sync_folder(target)
    return {"card": card, "how": how, "back": said}


def _names(folder: str) -> "list[str]":
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _place(source: str, target: str, disk: Disk) -> None:
    try:
        disk.rename(source, target)
    except OSError as error:
        # The same was placed there before this was interrupted.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _read(back: str, new: spool.Spool, pilot: str, card: str, attempts: "set[str]", disk: Disk) -> str:
    """Unpacks ``back`` below ``new``, durably: "whole", or why there is nothing to be had of it."""
    try:
        if os.path.islink(back) or not os.path.isfile(back):
            return "none"
        if not os.path.getsize(back):
            return "empty"
        _unpack(back, new, pilot, card, attempts, disk)
    except Damaged as error:
        return str(error)
    for folder, _, _ in os.walk(new.root):
        disk.sync_folder(folder)
    return "whole"


def _unpack(back: str, new: spool.Spool, pilot: str, card: str, attempts: "set[str]", disk: Disk) -> None:
    parser = framing.FrameParser()
    files, fd, ended, at = 0, -1, False, 0
    name: Any = None
    size: Any = None
    try:
        with open(back, "rb") as stream:
            while True:
                data = stream.read(PIECE)
                for one in parser.feed(data):
                    if ended:
                        raise Damaged("something follows its end")
                    if one.kind == "end":
                        ended = True
                        continue
                    if one.kind != "file" or not isinstance(one.meta, dict):
                        raise Damaged(f"a {one.kind} frame is in it")
                    if fd < 0:
                        name, size, at = one.meta.get("name"), one.meta.get("size"), 0
                        _check(name, pilot, card, attempts)
                        files += 1
                        if type(size) is not int or size < 0 or files > _MOST_FILES:
                            raise Damaged("it has too many files, or one without a size")
                        fd = _make(new, name, disk)
                    if (one.meta.get("name"), one.meta.get("size"), one.meta.get("offset")) != (name, size, at):
                        raise Damaged(f"a piece of {name!r} is missing")
                    at += len(one.body)
                    if at > size or (at < size and not one.body):
                        raise Damaged(f"{name!r} has another size than it says")
                    view = memoryview(one.body)
                    while view:
                        view = view[disk.write(fd, bytes(view)) :]
                    if at == size:
                        disk.sync(fd)
                        os.fchmod(fd, 0o444 if name.startswith("store/") else 0o600)
                        disk.close(fd)
                        fd = -1
                if parser.broken:
                    raise Damaged(f"it is damaged: {parser.broken}")
                if not data:
                    break
                if parser.pending > 4 * PIECE:
                    raise Damaged("a frame in it is too long")
    finally:
        if fd >= 0:
            disk.close(fd)
    if fd >= 0 or parser.pending or not ended:
        raise Damaged("it breaks off")


def _check(name: "Any", pilot: str, card: str, attempts: "set[str]") -> None:
    """Damaged, unless this is a file that a pilot brings back: an output of the card's attempts, their log, a journal."""
    try:
        parts = spool.check_name(name.partition("/")[2]).split("/") if isinstance(name, str) else []
        parent = name.partition("/")[0] if parts else ""
        if parent == "store" and len(parts) > 1 and parts[0] in attempts:
            return
        if parent == "logs" and parts == [card]:
            return
        if parent == "agents" and len(parts) == 2 and spool.check_agent(parts[0]).startswith(pilot + ".") and _STREAM.match(parts[1]):
            return
    except spool.BadName:
        pass
    raise Damaged(f"{str(name)[:300]!r} is not a file that a pilot brings back")


def _make(new: spool.Spool, name: str, disk: Disk) -> int:
    path = f"{new.root}/{name}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return disk.append_to(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            raise Damaged(f"{name!r} is there twice, or is too long") from None
        raise
