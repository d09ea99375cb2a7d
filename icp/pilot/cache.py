"""Files of a site by sha256: filled by one agent and awaited by the others, verified when used, evicted by size (hides
how agents on several nodes agree, and that there may be no cache).

``<sha256>`` is an entry. ``<sha256>.filling/`` belongs to the one that fills it: it holds its sign of life, whose bytes
change while it lives, and what it has so far. A sign that does not change for ``DEAD`` seconds of whoever waits is a dead
filler's, and its claim is taken away. Nobody needs a lock that works, or a clock that others share.
"""

import os
import re
import threading
import time

from . import node, spool
from .digest import copy, digest_of
from .disk import remove_tree
from .problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Cache", "Entry"]

BEAT, DEAD = 5.0, 60.0
"""Seconds between two signs of life of a filler, and without one after which it is dead."""
IN_USE = 600.0
"""Seconds after its last use for which an entry is not evicted."""
_FILLERS = 3
"""Others that may fail to fill an entry before one goes on alone."""
_FORGOTTEN = 86400.0
_ENTRY = re.compile(r"[0-9a-f]{64}\Z")


class Entry:
    """A file with the bytes that were asked for. To be closed: it may be one that is there for this use only."""

    def __init__(self, path: str, filled: bool, own: bool = False) -> None:
        self.path = path
        self._told = time.monotonic()
        self.filled = filled
        """Whether this call brought it here."""
        self._own = own

    def take(self, target: str) -> bool:
        """Moves the file, where that costs nothing and nobody else may use it."""
        if self._own and not os.path.lexists(target):
            try:
                os.rename(self.path, target)
                return True
            except OSError:
                pass
        return False

    def still(self) -> None:
        """Said again and again by who reads it for long: what is in use is not evicted."""
        if time.monotonic() - self._told > IN_USE / 10:
            self._told = time.monotonic()
            try:
                os.utime(self.path)
            except OSError:
                pass

    def close(self) -> None:
        if self._own:
            _unlink(self.path)

    def __enter__(self) -> "Entry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cache:
    """The cache in ``folder`` (None: there is none) of ``limit`` bytes; what cannot be kept there is put below
    ``elsewhere``, a folder of this node, for one use.
    """

    def __init__(self, folder: "str | None", limit: int, elsewhere: str) -> None:
        self.folder = folder if limit > 0 else None
        self.limit, self.elsewhere = limit, elsewhere
        self.dead = DEAD

    def get(self, sha256: str, fill: "Callable[[str], Any]", given_up: "Callable[[], bool]" = lambda: False) -> Entry:
        """The entry, read and found right just now.

        ``fill(path)`` makes the file where it is missing; it is called at most once for each place that is tried, and may
        say what it must by Problem. An OSError of it is one of the place. Problem of kind stage where the bytes are
        others; OSError where there is no room for them anywhere.
        """
        return self._get(sha256, fill, given_up, True)

    def into(
        self, sha256: str, target: str, fill: "Callable[[str], Any]", given_up: "Callable[[], bool]" = lambda: False
    ) -> bool:
        """Copies the entry to ``target``, which does not exist, and verifies what was copied: whether it had to be filled."""
        for check in (False, True):
            with self._get(sha256, fill, given_up, check) as entry:
                if entry.take(target):
                    return True
                try:
                    if copy(entry.path, target) == sha256:
                        return entry.filled
                except OSError:
                    if check or os.path.exists(entry.path):
                        _unlink(target)
                        raise
                    # Evicted just now.
            _unlink(target)
            remove_tree(entry.path)
        raise Problem("stage", f"{entry.path} changed while it was copied: it has not sha256 {sha256} any more")

    def lent(self, sha256: str, source: str) -> Entry:
        """The bytes of a file of this site, read and found right just now: the file itself, or, where the cache lies on
        another file system (a disk of the node's), a copy there, which its agents share. Problem of kind stage, OSError.
        """
        spool.check_digest(sha256)
        try:
            about = os.stat(source)
            if about.st_size <= self.limit and self.folder and _device(self.folder) != about.st_dev and self._usable(self.folder):
                kept = self._kept(sha256, lambda path: copy(source, path), lambda: False, True, spare=False)
                if kept is not None:
                    return kept
        except (Problem, OSError):
            pass  # It goes without.
        found = digest_of(source)
        if found != sha256:
            raise Problem("stage", f"{source} has sha256 {found}, expected {sha256}", [["cache", sha256]])
        return Entry(source, False)

    # --- finding

    def _get(self, sha256: str, fill: "Callable[[str], Any]", given_up: "Callable[[], bool]", check: bool) -> Entry:
        spool.check_digest(sha256)
        return self._kept(sha256, fill, given_up, check) or self._alone(sha256, fill)

    def _kept(
        self, sha256: str, fill: "Callable[[str], Any]", given_up: "Callable[[], bool]", check: bool, spare: bool = True
    ) -> "Entry | None":
        """The entry in the cache, or ``spare``, what was fetched for it and has no room there; None: it goes without."""
        failed = 0
        while self.folder is not None and self._usable(self.folder) and failed < _FILLERS:
            path = f"{self.folder}/{sha256}"
            found = self._right(path, sha256) if check else _plain(path)
            if found:
                try:
                    os.utime(path)
                except OSError:
                    pass  # A cache that can only be read.
                return Entry(path, False)
            if found is None and not remove_tree(path):
                break
            try:
                claim = _Claim(self.folder, sha256)
            except FileExistsError:
                self._wait(sha256, given_up)
                failed += not os.path.exists(path)
                continue
            except OSError:
                break
            try:
                return self._fill(claim, sha256, fill, spare)
            finally:
                claim.close()
        return None

    def _usable(self, folder: str) -> bool:
        """Whether nobody else can put something there between our looking at it and its use."""
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            about = os.stat(folder)
        except OSError:
            return False
        return about.st_uid == os.getuid() and not about.st_mode & 0o022

    def _right(self, path: str, sha256: str) -> "bool | None":
        """Whether the file is there (False: it is not) with these bytes (None: with others)."""
        if not _plain(path):
            return False
        try:
            return True if digest_of(path) == sha256 else None
        except OSError:
            return False

    # --- filling

    def _fill(self, claim: "_Claim", sha256: str, fill: "Callable[[str], Any]", spare: bool) -> "Entry | None":
        """None: it cannot be kept here."""
        assert self.folder is not None
        path = f"{self.folder}/{sha256}"
        if _plain(path):
            # Somebody was done with it between our looking and our claim.
            return Entry(path, False) if self._right(path, sha256) else None
        try:
            fill(claim.part)
            _verify(claim.part, sha256)
            if self._make_room(claim.part):
                os.chmod(claim.part, 0o444)
                os.rename(claim.part, path)
                return Entry(path, True)
            if not spare:
                return None
            os.makedirs(self.elsewhere, mode=0o700, exist_ok=True)
            own = f"{self.elsewhere}/{sha256}.{claim.nonce}"
            if copy(claim.part, own) == sha256:
                return Entry(own, True, own=True)
        except OSError:
            pass  # Full, or taken away from us: it goes without.
        return None

    def _alone(self, sha256: str, fill: "Callable[[str], Any]") -> Entry:
        os.makedirs(self.elsewhere, mode=0o700, exist_ok=True)
        path = f"{self.elsewhere}/{sha256}.{_nonce()}"
        try:
            fill(path)
            _verify(path, sha256)
        except BaseException:
            _unlink(path)
            raise
        return Entry(path, True, own=True)

    def _make_room(self, part: str) -> bool:
        """Evicts what was not used for longest, until so many bytes more are within the limit; whether they are."""
        assert self.folder is not None
        about = os.stat(part)
        entries = []
        for name in os.listdir(self.folder):
            path = f"{self.folder}/{name}"
            try:
                one = os.stat(path)
                if _ENTRY.match(name):
                    entries.append((one.st_mtime, one.st_size, name))
                elif ".filling." in name or (name.endswith(".filling") and _last(path) < about.st_mtime - _FORGOTTEN):
                    remove_tree(path)
            except OSError:
                pass
        over = about.st_size + sum(size for _, size, _ in entries) - self.limit
        if about.st_size > self.limit:
            return False
        # All by the clock of the file system: what was just written tells what it is.
        going = [(size, name) for used, size, name in sorted(entries) if used < about.st_mtime - IN_USE]
        if sum(size for size, _ in going) < over:
            return False
        for size, name in going:
            if over <= 0:
                break
            if remove_tree(f"{self.folder}/{name}"):
                over -= size
        return over <= 0

    def _wait(self, sha256: str, given_up: "Callable[[], bool]") -> None:
        """Until the one that fills it is done, or dead; then its claim is gone."""
        folder = f"{self.folder}/{sha256}.filling"
        last: Any = None
        since, pause = time.monotonic(), 0.05
        while os.path.isdir(folder):
            if given_up():
                raise Problem("stage", f"given up while another agent fetched {sha256[:16]}")
            sign = _signs(folder)
            if sign != last:
                last, since = sign, time.monotonic()
            if time.monotonic() - since > self.dead or _died_here(sign):
                away = f"{folder}.{_nonce()}"
                try:
                    os.rename(folder, away)
                    remove_tree(away)
                except OSError:
                    pass
                return
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)


class _Claim:
    """``<sha256>.filling/``, ours as long as it is there with our sign of life; FileExistsError: somebody else's."""

    def __init__(self, folder: str, sha256: str) -> None:
        self.nonce = _nonce()
        self._folder = f"{folder}/{sha256}.filling"
        self._sign, self.part = f"{self._folder}/{self.nonce}", f"{self._folder}/{self.nonce}.part"
        os.mkdir(self._folder, 0o700)
        self._over = threading.Event()
        pid = os.getpid()
        self._who = f"{node.host()} {node.boot_id()} {_numbers()} {pid} {node.start_time(pid)}"
        try:
            self._fd = os.open(self._sign, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._beat(0)
        except OSError as error:
            self._remove()
            raise OSError(error.errno, error.strerror) from error
        thread = threading.Thread(target=self._live, name="cache")
        thread.daemon = True
        thread.start()

    def _beat(self, number: int) -> None:
        os.pwrite(self._fd, f"{self._who} {number:012d}\n".encode("ascii"), 0)

    def _live(self) -> None:
        number = 0
        while not self._over.wait(BEAT):
            number += 1
            try:
                self._beat(number)
                os.fsync(self._fd)  # NFS: others see it now.
            except OSError:
                pass
        os.close(self._fd)

    def close(self) -> None:
        self._over.set()
        self._remove()

    def _remove(self) -> None:
        _unlink(self.part)
        _unlink(self._sign)
        try:
            os.rmdir(self._folder)
        except OSError:
            pass  # It was taken away, and is another's now.


def _signs(folder: str) -> "tuple[str, ...]":
    found = []
    try:
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".part"):
                with open(f"{folder}/{name}", encoding="ascii", errors="replace") as stream:
                    found.append(stream.read(1000))
    except OSError:
        pass
    return tuple(found)


def _device(path: str) -> int:
    """The file system that this folder lies on, or will lie on."""
    while True:
        try:
            return os.stat(path).st_dev
        except FileNotFoundError:
            above = os.path.dirname(path) or "."
            if above == path:
                raise
            path = above


def _numbers() -> str:
    """Whose numbers pids are: a container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


def _last(folder: str) -> float:
    """When a filler last gave a sign of life."""
    return max(os.stat(path).st_mtime for path in [folder] + [f"{folder}/{name}" for name in os.listdir(folder)])


def _died_here(signs: "tuple[str, ...]") -> bool:
    """Whether they are all of processes of this node that are not there any more."""
    for sign in signs:
        words = sign.split()
        if len(words) != 6 or words[:3] != [node.host(), node.boot_id(), _numbers()]:
            return False
        if not (words[3].isdigit() and words[4].isdigit()) or node.alive(int(words[3]), int(words[4])):
            return False
    return bool(signs)


def _verify(path: str, sha256: str) -> None:
    found = digest_of(path)
    if found != sha256:
        raise Problem("stage", f"what was fetched has sha256 {found}, expected {sha256}")


def _plain(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _nonce() -> str:
    return os.urandom(8).hex()


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
