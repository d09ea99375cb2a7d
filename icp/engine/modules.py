"""Python modules that a steering file names by URL: resolved, fetched once, kept, and shipped with the dataset (hides git,
https and the cache). Only the submitting machine fetches; a worker never does.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from icp.dsl.modules import CannotFetch, Fetched, beside
from icp.dsl.names import unsafe
from icp.engine.downloads import NotFetched, download
from icp.model.definition import Origin
from icp.places import places

__all__ = ["Fetcher"]

FOLDER = ".icp-modules"
"""Where fetched modules lie in a pack, and so in a task's directory."""
FILE_LIMIT = 10_000_000
TIMEOUT = 300
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_REV = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*\Z")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\Z")


class Fetcher:
    """Fetches for one steering file. ``shipped``: what must be in the pack, name -> file or folder here."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = (places().cache if cache is None else cache) / "modules"
        self.shipped: dict[str, Path] = {}
        self._known: dict[tuple[str, str], Path] = {}

    def __call__(self, origin: Origin, python: str) -> Fetched:
        """What ``url``, ``rev`` and the path in a repository mean; CannotFetch."""
        kind = origin.url.partition(":")[0]
        try:
            if kind in ("git+https", "git+file"):
                return self._of_repository(origin, python)
            if kind in ("https", "file", "http"):
                return self._of_file(origin, python)
        except OSError as error:
            raise CannotFetch(f"{origin.url} cannot be kept in {self.cache}: {error.strerror or error}") from None
        raise CannotFetch(f"{origin.url}: expected https:, git+https:, file: or git+file:")

    # --- one file

    def _of_file(self, origin: Origin, python: str) -> Fetched:
        url = urlsplit(origin.url)
        name = unquote(url.path).rpartition("/")[2]
        if not name.endswith(".py") or unsafe(name):
            raise CannotFetch(f"{origin.url} is no file NAME.py; a repository is git+{origin.url}")
        if python not in ("", name):
            raise CannotFetch(f"{origin.url} is one file, and python = {python!r} is for a path in a repository")
        pinned = _SHA256.match(origin.rev)
        if origin.rev and not pinned:
            raise CannotFetch(f"{origin.url} is one file, and rev = {origin.rev!r} is for a repository; here it may be sha256:HEX")
        kept = self.cache / pinned[1][:16] / name if pinned else None
        data = kept.read_bytes() if kept is not None and kept.is_file() else b""
        sha256 = hashlib.sha256(data).hexdigest()
        if not data or not pinned or sha256 != pinned[1]:
            sha256 = self._file(origin.url, name, pinned[1] if pinned else None)
        return self._fetched(origin, self.cache / sha256[:16], sha256[:16], name, "")

    def _file(self, url: str, name: str, pinned: str | None) -> str:
        """Fetch one file to its place in the cache; its sha256."""
        self.cache.mkdir(parents=True, exist_ok=True)
        part = self.cache / f".file-{os.urandom(4).hex()}"
        try:
            sha256 = download(url, part, pinned, limit=FILE_LIMIT)
            folder = self.cache / sha256[:16]
            folder.mkdir(exist_ok=True)
            part.replace(folder / name)
            return sha256
        except NotFetched as error:
            raise CannotFetch(f"{url} cannot be fetched: {error}") from None
        finally:
            part.unlink(missing_ok=True)

    # --- a repository

    def _of_repository(self, origin: Origin, python: str) -> Fetched:
        if not python or not python.endswith(".py") or unsafe(python):
            raise CannotFetch(f"{origin.url} is a repository: python = \"PATH/IN/IT.py\" is needed")
        if not _REV.match(origin.rev) or ".." in origin.rev:
            said = f", and {origin.rev!r} is none" if origin.rev else ""
            raise CannotFetch(f"{origin.url} is a repository: rev = a branch, tag or commit is needed{said}")
        where = self._known.get((origin.url, origin.rev))
        if where is None:
            where = self._known[origin.url, origin.rev] = self._tree(origin.url.removeprefix("git+"), origin.rev)
        commit = where.name
        if not (where / python).is_file():
            raise CannotFetch(f"{origin.url} has no {python} at {commit[:12]}")
        return self._fetched(origin, where, commit[:16], python, commit)

    def _tree(self, url: str, rev: str) -> Path:
        """The folder with the files of a commit."""
        commit = rev if _COMMIT.match(rev) else _remote_commit(url, rev)
        if commit and (self.cache / commit).is_dir():
            return self.cache / commit
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".git-") as folder:
            _git(["init", "--quiet", "--bare", folder], url)
            if not commit or _git(["-C", folder, "fetch", "--quiet", "--depth=1", "--", url, commit], url, may_fail=True) is None:
                # A server may refuse a commit that is no end of a branch, and a shortened one is known only by all.
                _git(["-C", folder, "fetch", "--quiet", "--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"], url)
            found = _git(["-C", folder, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{commit or rev}^{{commit}}"], url, may_fail=True)
            if found is None:
                raise CannotFetch(f"{url} has no branch, tag or commit {rev}")
            commit = found.decode().strip()
            archive = _git(["-C", folder, "archive", "--format=tar", commit], url)
        assert archive is not None
        target = self.cache / commit
        if not target.is_dir():
            temporary = Path(tempfile.mkdtemp(dir=self.cache, prefix=".tree-"))
            try:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    for member in tar:
                        content = tar.extractfile(member) if member.isfile() and not unsafe(member.name) else None
                        if content is not None:  # links are left out: a pack has none
                            (temporary / member.name).parent.mkdir(parents=True, exist_ok=True)
                            (temporary / member.name).write_bytes(content.read())
                            (temporary / member.name).chmod(0o755 if member.mode & 0o100 else 0o644)
                temporary.chmod(0o700)
                temporary.rename(target)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                if not target.is_dir():  # Another icp was faster.
                    raise
        return target

    def _fetched(self, origin: Origin, folder: Path, key: str, python: str, commit: str) -> Fetched:
        place = f"{FOLDER}/{key}"
        self.shipped[place] = folder
        data = (folder / python).read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CannotFetch(f"{python} of {origin.url} is not UTF-8 (byte {error.start})") from None

        def get(name: str) -> str | None:
            path = folder / name
            return path.read_text("utf-8", "replace") if path.is_file() else None

        near, far = beside(python, get), beside("", get)
        settled = replace(origin, commit=commit, sha256=hashlib.sha256(data).hexdigest(), folder=place)
        return Fetched(settled, f"{place}/{python}", text, lambda name: near(name) or far(name))


def _remote_commit(url: str, rev: str) -> str:
    """The commit that a tag or branch has there now; empty where none has this name."""
    said = _git(["ls-remote", "--quiet", "--", url, f"refs/tags/{rev}^{{}}", f"refs/tags/{rev}", f"refs/heads/{rev}"], url)
    found = {ref: commit for commit, _, ref in (line.partition("\t") for line in (said or b"").decode().splitlines())}
    return next((found[ref] for ref in (f"refs/tags/{rev}^{{}}", f"refs/tags/{rev}", f"refs/heads/{rev}") if ref in found), "")


def _git(words: list[str], url: str, may_fail: bool = False) -> bytes | None:
    env = {**os.environ, "GIT_ALLOW_PROTOCOL": "https:file", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    env = {name: value for name, value in env.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    try:
        done = subprocess.run(["git", *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise CannotFetch(f"{url} needs the command git, and it is not installed here") from None
    except subprocess.TimeoutExpired:
        raise CannotFetch(f"{url} did not answer within {TIMEOUT} s") from None
    if done.returncode == 0:
        return done.stdout
    if may_fail:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    raise CannotFetch(f"{url} cannot be fetched: {said[-1] if said else f'git ended with {done.returncode}'}")
