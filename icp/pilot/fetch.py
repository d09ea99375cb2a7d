"""Files by URL, into a node and out of it: tried again with pauses, resumed, verified (hides how each scheme does it).

``file``, ``http``, ``https`` and ``ssh`` are known; every other scheme, or one of these by other means, is a pair of
commands of the configuration: ``{"gsiftp": {"get": [...], "put": [...]}}``, in which ``{url}`` and ``{file}`` stand for what
they are called.
"""

import errno
import hashlib
import os
import random
import time
import urllib.parse

from . import by_http, by_ssh
from .digest import BLOCK
from .outside import Outside, Unanswered
from .part import SCHEMES, Broken, Limits, Part
from .problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Limits", "Transfers", "Want", "shown"]


class Want:
    """A file by its URL, and what is known of it: hex digests, bytes."""

    def __init__(self, url: str, sha256: "str | None" = None, md5: "str | None" = None, size: "int | None" = None) -> None:
        self.url, self.sha256, self.md5, self.size = url, sha256, md5, size

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()


def shown(url: str) -> str:
    """A URL as it may be printed: what is signed into its query is nobody's business."""
    plain, mark, _ = url.partition("?")
    return plain + ("?..." if mark else "")


class Transfers:
    """Fetches and stores for the attempts of one agent."""

    def __init__(
        self, commands: "dict[str, dict[str, list[str]]] | None", folder: str, limits: "Limits | None" = None
    ) -> None:
        """``folder``: node-local, for what lasts as long as a transfer."""
        self._commands, self._folder, self._limits = commands or {}, folder, limits or Limits()

    def get(self, want: Want, target: str, given_up: "Callable[[], bool]" = lambda: False) -> "dict[str, Any]":
        """Makes ``target``, which does not exist, with the bytes that are wanted: {"bytes", "seconds", "tries", "sha256"}.

        Problem of kind stage where that cannot be had, OSError where it cannot be written; then there is no target.
        """
        began = time.monotonic()
        self._make_folder()
        part = self._part(target + ".part", want, given_up)
        try:

            def once() -> str:
                self._get_once(want, part)
                return _verify(want, part)

            sha256, tries = self._again(once, part)
            part.close()
            os.rename(target + ".part", target)
        except Broken as error:
            raise Problem("stage", f"{shown(want.url)}: {error}") from error
        finally:
            part.close()
            _unlink(target + ".part")
        return {"bytes": part.have, "seconds": round(time.monotonic() - began, 3), "tries": tries, "sha256": sha256}

    def _part(self, path: str, want: Want, given_up: "Callable[[], bool]") -> Part:
        return Part(path, self._limits, given_up, sure=bool(want.sha256 or want.md5), size=want.size)

    def put(self, path: str, want: Want, given_up: "Callable[[], bool]" = lambda: False) -> "dict[str, Any]":
        """Stores a file whose sha256 and size are known under its URL, and sees to it that it is the one which is there."""
        began = time.monotonic()
        self._make_folder()
        part = Part(None, self._limits, given_up)

        def once() -> None:
            if given_up():
                raise Broken("given up", again=False)
            self._put_once(path, want, part)

        try:
            _, tries = self._again(once, part)
        except Broken as error:
            raise Problem("stage", f"{shown(want.url)}: {error}") from error
        return {"bytes": want.size, "seconds": round(time.monotonic() - began, 3), "tries": tries, "sha256": want.sha256}

    def _make_folder(self) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def _again(self, once: "Callable[[], Any]", part: Part) -> "tuple[Any, int]":
        """Tries until it is done: what that gave, and how many tries it took. Broken."""
        tries = counted = 0
        while True:
            tries += 1
            part.next_try()
            try:
                return once(), tries
            except Broken as error:
                counted += part.brought < self._limits.progress
                if not error.again or counted >= self._limits.tries or part.given_up():
                    behind = f" (after {tries} tries)" if tries > 1 else ""
                    raise Broken(f"{error}{behind}", again=False, wrong=error.wrong) from error
                pauses = self._limits.pauses
                # Not all at the same moment: what broke it off for one did so for many.
                pause = max(error.pause, pauses[min(max(1, counted), len(pauses)) - 1]) * random.uniform(0.75, 1.25)
            deadline = time.monotonic() + pause
            while time.monotonic() < deadline and not part.given_up():
                time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))

    # --- one try

    def _get_once(self, want: Want, part: Part) -> None:
        command = self._commands.get(want.scheme, {}).get("get")
        if command:
            self._command(command, want.url, str(part.path), part)
            try:
                part.have = os.stat(str(part.path)).st_size
            except OSError:
                raise Broken(f"{command[0]} ended with exit code 0 and left no file", again=False) from None
        elif want.scheme in ("http", "https"):
            self._http(want.url, part)
        elif want.scheme == "ssh":
            by_ssh.get(want.url, part, self._folder)
        elif want.scheme == "file":
            _read_file(_local(want.url), part)
        else:
            raise self._unknown(want.scheme, "get")

    def _http(self, url: str, part: Part) -> None:
        by_http.get(url, part)

    def _put_once(self, path: str, want: Want, part: Part) -> None:
        command = self._commands.get(want.scheme, {}).get("put")
        if command:
            self._command(command, want.url, path, part)
            self._read_back(want, part)
        elif want.scheme in ("http", "https"):
            by_http.put(want.url, path, part)
            self._read_back(want, part)
        elif want.scheme == "ssh":
            by_ssh.put(want.url, path, str(want.sha256), part, self._folder)
        elif want.scheme == "file":
            _write_file(path, _local(want.url), want, part)
        else:
            raise self._unknown(want.scheme, "put")

    def _unknown(self, scheme: str, what: str) -> Broken:
        if scheme in self._commands:
            return Broken(f"transfer.{scheme}.{what} is not configured", again=False)
        known = ", ".join(sorted({*SCHEMES, *self._commands}))
        return Broken(f"{scheme}:// is none of {known}, and transfer.{scheme}.{what} is not configured", again=False)

    def _command(self, command: "list[str]", url: str, path: str, part: Part) -> None:
        argv = [word.replace("{url}", url).replace("{file}", path) for word in command]
        if part.path is not None:
            # Some commands refuse to write to what is there, and some go on with it, of whatever file it is.
            part.close()
            part.restart()
            _unlink(part.path)
        try:
            with Outside(argv, self._folder) as running:
                code = running.end(self._limits.command, part.given_up)
                if code != 0:
                    said = running.last_words()
                    how = "was killed" if code is None else f"ended with exit code {code}"
                    raise Broken(f"{argv[0]} {how}" + (f": {said}" if said else ""), again=code not in (126, 127))
        except Unanswered as error:
            raise Broken(f"{argv[0]}: {error}") from error

    def _read_back(self, want: Want, part: Part) -> None:
        """What is there now is fetched: Broken unless it is what was stored."""
        summed = hashlib.sha256()
        if self._commands.get(want.scheme, {}).get("get") is None:
            if want.scheme not in ("http", "https"):
                raise self._unknown(want.scheme, "get")
            back = Part(None, self._limits, part.given_up, sure=True, see=summed.update)
            by_http.get(want.url, back)
            found = summed.hexdigest()
        else:
            path = f"{self._folder}/back.{os.urandom(8).hex()}"
            back = Part(path, self._limits, part.given_up, sure=True)
            try:
                self._get_once(want, back)
                found = _sums(path, None)[0]
            finally:
                back.close()
                _unlink(path)
        if found != want.sha256:
            if want.scheme in ("http", "https"):
                by_http.remove(want.url, part)
            raise Broken(f"what is stored there has sha256 {found}, expected {want.sha256}")


# --- files of the node


def _local(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise Broken("it is no file:///absolute/path", again=False)
    return path


def _broken(error: OSError, path: str) -> Broken:
    never = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP)
    return Broken(f"{path}: {error.strerror}", again=error.errno not in never)


def _read_file(path: str, part: Part) -> None:
    part.restart()
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise _broken(error, path) from error
    with stream:
        part.total = os.fstat(stream.fileno()).st_size
        while True:
            try:
                data = stream.read(BLOCK)
            except OSError as error:
                raise _broken(error, path) from error
            if not data:
                break
            part.add(data)
    if part.have != part.total:
        raise Broken(f"{path} changed while it was read")


def _write_file(source: str, path: str, want: Want, part: Part) -> None:
    temporary = f"{path}.{os.urandom(8).hex()}.part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.isdir(path):
            raise Broken(f"{path} is a directory", again=False)
        with open(source, "rb") as stream, open(temporary, "xb") as out:
            for block in iter(lambda: stream.read(BLOCK), b""):
                out.write(block)
                part.add(block)
            out.flush()
            os.fsync(out.fileno())
        found = _sums(temporary, None)[0]
        if found != want.sha256:
            raise Broken(f"what was written there has sha256 {found}, expected {want.sha256}")
        if part.given_up():
            raise Broken("given up", again=False)
        os.rename(temporary, path)
    except OSError as error:
        raise _broken(error, path) from error
    finally:
        _unlink(temporary)


# --- checksums


def _sums(path: str, md5: "str | None") -> "tuple[str, str | None]":
    """(sha256, md5 if that is wanted) of a file."""
    digest = hashlib.sha256()
    other = None if md5 is None else _md5()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
            if other is not None:
                other.update(block)
    return digest.hexdigest(), None if other is None else other.hexdigest()


def _md5() -> "Any":
    try:
        return hashlib.md5()  # noqa: S324 - against mishaps, as in IceProd; sha256 is there against people
    except ValueError:
        # Forbidden on this node for what it is not used for here.
        return hashlib.new("md5", usedforsecurity=False)  # novm


def _verify(want: Want, part: Part) -> str:
    """The sha256 of what came; Broken, with nothing of it left, where it is not what is wanted."""
    path = str(part.path)
    size = os.stat(path).st_size
    sha256, md5 = _sums(path, want.md5)
    wrong = ""
    if want.size is not None and size != want.size:
        wrong = f"it has {size} bytes, expected {want.size}, and sha256 {sha256}" + (f", expected {want.sha256}" if want.sha256 else "")
    elif (want.sha256 or sha256) != sha256:
        wrong = f"it has sha256 {sha256}, expected {want.sha256}"
    elif want.md5 is not None and md5 != want.md5.lower():
        wrong = f"it has md5 {md5}, expected {want.md5}"
    elif (part.told or sha256) != sha256:
        wrong = f"it has sha256 {sha256}, and {part.told} where it comes from"
    if wrong:
        # The same wrong bytes twice are what is there, not what became of it on the way.
        same, part.wrong = sha256 == part.wrong, sha256
        part.restart()
        raise Broken(wrong, again=not same, wrong=True)
    return sha256


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
