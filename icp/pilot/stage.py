"""Files into a working directory and out of it: inputs, packs, outputs (hides tar, globs, and how a full disk
is waited out).
"""

import errno
import hashlib
import os
import stat
import time

from . import faults, spool
from .cache import Cache
from .digest import BLOCK, copy, digest_of
from .disk import Disk, remove_tree
from .problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .cache import Entry
    from .fetch import Transfers

__all__ = ["Problem", "Stage", "declared_outputs", "statistics"]

STORE_PATIENCE = 300.0
"""Seconds for which an output that cannot be stored is tried again."""
_GONE = 300
_URL = 500
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)


class Stage:
    """Moves files for the attempts of one agent. Its methods may take long: they are called outside of the
    agent's loop.
    """

    def __init__(
        self,
        source_of: "Callable[[list[str], str], str]",
        pack_of: "Callable[[str], str]",
        store: "Callable[[str], str] | None",
        packs: str,
        commands: "dict[str, dict[str, list[str]]] | None" = None,
        cache: "Cache | None" = None,
        disk: "Disk | None" = None,
    ) -> None:
        """``source_of(from, name)`` and ``pack_of(sha256)`` are paths, ``store(attempt)`` a folder (None: outputs stay
        where they are).

        ``packs`` is the node-local folder in which packs are unpacked; ``commands`` fetch and store by URL (see ``fetch``), and
        ``cache`` has what is fetched if its sha256 is known, and on disks of the nodes' own what was shipped.
        """
        self._source_of, self._pack_of, self._store = source_of, pack_of, store
        self._packs, self._disk = packs, disk or Disk()
        self._commands, self._cache = commands, cache or Cache(None, 0, packs + ".own")
        self._transfers: Transfers | None = None
        self._unpacked: dict[str, list[str]] = {}

    @property
    def transfers(self) -> "Transfers":
        """What fetches and stores by URL: most agents never need what it needs."""
        if self._transfers is None:
            from .fetch import Transfers

            self._transfers = Transfers(self._commands, self._packs + ".during")
        return self._transfers

    # --- in

    def lend(self, sha256: str) -> "Entry":
        """What was shipped to the site, verified just now. Problem of kind stage, OSError."""
        return self._cache.lent(sha256, self._pack_of(sha256))

    def links(self, spec: "dict[str, Any]") -> "dict[str, str] | None":
        """The links that a task's directory begins with, name -> target, where they are all that it needs and the shipped
        files are unpacked; None otherwise.
        """
        files = spec.get("files") or ()
        if spec.get("in") or spec.get("list") or any(sha256 not in self._unpacked for sha256 in files):
            return None
        return {name: f"{self._packs}/{sha256}/{name}" for sha256 in files for name in self._unpacked[sha256]}

    def bring_in(
        self,
        spec: "dict[str, Any]",
        work: str,
        known: "dict[tuple[str, str], str]",
        moved: "list[list[Any]]",
        given_up: "Callable[[], bool]",
    ) -> None:
        """Puts shipped files, inputs and ``inputs.list`` into ``work``; ``known`` has checksums of outputs made
        by the same card. What came by URL is told in ``moved``.
        """
        for sha256 in spec.get("files") or ():
            folder = f"{self._packs}/{sha256}"
            for name in self._unpack(sha256, folder):
                os.symlink(f"{folder}/{name}", f"{work}/{name}")
        names, gone, first = [], [], ""
        for one in spec.get("in") or ():
            name, origin = spool.check_name(one["name"]), one["from"]
            if origin[0] == "url":
                continue
            names.append(name)
            stored = origin[2] if len(origin) > 2 else name
            source = self._source_of(origin, stored)
            expected = one.get("sha256") or known.get((origin[1], stored))
            try:
                os.makedirs(os.path.dirname(f"{work}/{name}"), exist_ok=True)
                found = copy(source, f"{work}/{name}")
                wrong = f"({source}) has sha256 {found}, expected {expected}" if expected and found != expected else ""
            except OSError as error:
                wrong = f"cannot be copied from {source}: {error.strerror}"
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise Problem("stage", f"input {name} {wrong}") from error
            if wrong:
                # All that is gone is told at once: what made it runs again, and that should not take a try for each.
                first = first or f"input {name} {wrong}"
                gone.append(["store", origin[1], stored] if origin[0] == "store" else ["cache", origin[1]])
        if gone:
            raise Problem("stage", first, gone[:_GONE])
        for one in spec.get("in") or ():
            if one["from"][0] == "url":
                moved.append(self._fetch(one, f"{work}/{one['name']}", given_up))
        if spec.get("list"):
            with open(work + "/inputs.list", "w", encoding="utf-8") as stream:
                stream.write("".join(name + "\n" for name in names))

    def _fetch(self, one: "dict[str, Any]", target: str, given_up: "Callable[[], bool]") -> "list[Any]":
        """An input by URL: ["in", name, URL, bytes, seconds, sha256, whether it was fetched or the cache had it]."""
        from .fetch import Want, shown

        name, sha256 = one["name"], one.get("sha256")
        want = Want(one["from"][1], sha256, one.get("md5"), one.get("size"))
        began, told = time.monotonic(), {}

        def fill(path: str) -> None:
            told.update(self.transfers.get(want, path, given_up))

        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "a file of that name was shipped", target)
            if sha256:
                self._cache.into(sha256, target, fill, given_up)
            else:
                fill(target)
            size = os.stat(target).st_size
        except Problem as problem:
            raise Problem("stage", f"input {name} cannot be had: {problem}") from problem
        except OSError as error:
            raise Problem("stage", f"input {name} ({shown(want.url)}) cannot be written: {error.strerror}") from error
        seconds = round(time.monotonic() - began, 3)
        return ["in", name, shown(want.url)[:_URL], size, seconds, sha256 or told["sha256"], "fetched" if told else "cache"]

    def _unpack(self, sha256: str, folder: str) -> "list[str]":
        """The top-level names of a pack, which is unpacked once."""
        if sha256 not in self._unpacked:
            spool.check_digest(sha256)
            try:
                with self.lend(sha256) as entry:
                    names = self._unpack_once(entry, folder)
            except Problem as problem:
                raise Problem("stage", f"the shipped files cannot be used: {problem}", problem.gone) from problem
            except (OSError, ValueError) as error:
                gone = [["cache", sha256]] if getattr(error, "errno", None) == errno.ENOENT else None
                raise Problem("stage", f"the shipped files {sha256[:16]} cannot be unpacked: {error}", gone) from error
            self._unpacked[sha256] = names
        return self._unpacked[sha256]

    def _unpack_once(self, entry: "Entry", folder: str) -> "list[str]":
        import tarfile
        import threading

        temporary = f"{folder}.{threading.get_ident()}"
        os.makedirs(temporary)
        folders = []
        with tarfile.open(entry.path, "r:") as archive:
            for member in archive:
                target = f"{temporary}/{spool.check_name(member.name.rstrip('/'))}"
                if member.isdir():
                    os.makedirs(target, exist_ok=True)
                    folders.append(target)
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ValueError(f"{member.name} is no plain file")
                with open(target, "xb") as out:
                    while True:
                        block = content.read(BLOCK)
                        if not block:
                            break
                        out.write(block)
                        entry.still()
                os.chmod(target, 0o555 if member.mode & 0o100 else 0o444)
        try:
            os.rename(temporary, folder)
        except OSError:
            remove_tree(temporary)  # Another slot was faster.
            if not os.path.isdir(folder):
                raise
        for base, _, _ in os.walk(folder, topdown=False):
            os.chmod(base, 0o555)
        return sorted(os.listdir(folder))

    # --- out

    def take_out(
        self, spec: "dict[str, Any]", work: str, moved: "list[list[Any]]", given_up: "Callable[[], bool]"
    ) -> "list[list[Any]]":
        """Stores the declared outputs for good: [[index, name, bytes, sha256]...]. ``given_up()``: nobody waits
        for them any more. What went to a URL is told in ``moved``.
        """
        found = declared_outputs(spec["out"], work)
        away = []
        for index, name in found:
            one = spec["out"][index]
            if one.get("url"):
                moved.append(self._send(one["url"], name, work + "/" + name, given_up))
                if one.get("away"):
                    away.append([index, name, moved[-1][3], moved[-1][5]])
        if self._store is None:
            return [
                [index, name, os.stat(work + "/" + name).st_size, digest_of(work + "/" + name)] for index, name in found
            ]
        if away:
            sent = [one[1] for one in away]
            found = [one for one in found if one[1] not in sent]
            if not found:
                return away
        folder = self._store(spec["a"])
        deadline, pause = time.time() + STORE_PATIENCE, 0.2
        done: list[list[Any]] = away
        before = len(away)
        while True:
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                while len(done) - before < len(found):
                    index, name = found[len(done) - before]
                    done.append([index, name, *self._store_one(work + "/" + name, folder, name)])
                self._disk.sync_folder(folder)
                self._disk.sync_folder(os.path.dirname(folder))
                return done
            except OSError as error:
                if error.errno not in _TRANSIENT or time.time() > deadline or given_up():
                    raise Problem("node", f"the outputs cannot be stored in {folder}: {error.strerror}") from error
            time.sleep(pause)
            pause = min(10.0, pause * 2)

    def _send(self, url: str, name: str, path: str, given_up: "Callable[[], bool]") -> "list[Any]":
        """An output to its URL: ["out", name, URL, bytes, seconds, sha256, "stored"]."""
        import urllib.parse

        from .fetch import Want, shown

        url = url + urllib.parse.quote(name) if url.endswith("/") else url
        began = time.monotonic()
        try:
            want = Want(url, digest_of(path), size=os.stat(path).st_size)
            self.transfers.put(path, want, given_up)
        except Problem as problem:
            raise Problem("stage", f"output {name} cannot be stored: {problem}") from problem
        except OSError as error:
            raise Problem("stage", f"output {name} cannot be stored: {shown(url)}: {error.strerror}") from error
        return ["out", name, shown(url)[:_URL], want.size, round(time.monotonic() - began, 3), want.sha256, "stored"]

    def _store_one(self, source: str, folder: str, name: str) -> "list[Any]":
        target = f"{folder}/{name}"
        if "/" in name:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        temporary = target + ".tmp"
        try:
            os.unlink(temporary)
        except OSError:
            pass
        fd = self._disk.append_to(temporary)
        digest, size = hashlib.sha256(), 0
        try:
            with open(source, "rb") as stream:
                for block in iter(lambda: stream.read(BLOCK), b""):
                    digest.update(block)
                    size += len(block)
                    if self._disk.write(fd, block) != len(block):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fchmod(fd, 0o444)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(temporary, target)
        if "/" in name:
            self._disk.sync_folder(os.path.dirname(target))
        faults.visit("agent.out_renamed")
        return [size, digest.hexdigest()]


def declared_outputs(declared: "list[dict[str, Any]]", work: str) -> "list[tuple[int, str]]":
    """(index, name) of every file that the declarations name; Problem of kind payload where one is missing and
    not optional.
    """
    found, taken = [], set()
    for index, one in enumerate(declared):
        name = one["name"]
        if one.get("glob") or any(sign in name for sign in "*?["):
            import glob

            base = glob.escape(work) + "/"
            names = sorted(
                path[len(work) + 1 :] for path in glob.glob(base + name, recursive=True) if os.path.isfile(path)
            )
        else:
            names = [name] if os.path.lexists(work + "/" + name) else []
        if not names and not one.get("optional"):
            raise Problem("payload", f"declared output {name} missing")
        for each in names:
            if each in taken:
                continue
            taken.add(each)
            try:
                mode = os.stat(work + "/" + spool.check_name(each)).st_mode
            except (OSError, spool.BadName) as error:
                raise Problem("payload", f"declared output {name}: {error}") from error
            if not stat.S_ISREG(mode):
                raise Problem("payload", f"declared output {each} is not a regular file")
            found.append((index, each))
    return found


def statistics(path: str) -> "tuple[dict[str, float], str | None]":
    """What a task left in ``$ICP_STATS``, and what was wrong with it: a JSON object of numbers, or lines ``name
    value``, ``name += value``.
    """
    import json
    import math

    try:
        with open(path, "rb") as stream:
            text = stream.read(1 << 20).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return {}, f"statistics cannot be read: {error}"
    found: dict[str, float] = {}
    wrong = None
    if text.lstrip().startswith("{"):
        try:
            pairs = [(name, "=", value) for name, value in json.loads(text).items()]
        except ValueError as error:
            return {}, f"statistics are no JSON object: {error}"
    else:
        pairs = []
        for row in text.splitlines():
            words = row.split()
            if len(words) == 2:
                pairs.append((words[0], "=", words[1]))
            elif len(words) == 3 and words[1] in ("+=", "="):
                pairs.append((words[0], words[1], words[2]))
            elif words:
                wrong = f"statistics: {row[:100]!r} is not 'name value' or 'name += value'"
    for name, sign, value in pairs:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
            if not math.isfinite(number):
                raise ValueError
            if number == int(number) and abs(number) < 1 << 53:
                number = int(number)
            found[name[:100]] = found.get(name[:100], 0) + number if sign == "+=" else number
        except (TypeError, ValueError):
            wrong = f"statistics: the value of {name[:100]!r} is not a number"
    return found, wrong
