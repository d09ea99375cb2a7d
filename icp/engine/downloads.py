"""Files by URL onto this machine, as pilots fetch them, but by httpx and seen by whoever waits (hides connections, and what is said meanwhile)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icp.pilot.by_http import get, refusal
from icp.pilot.fetch import Transfers, Want
from icp.pilot.part import Broken, Limits, Part
from icp.pilot.problem import Problem

if TYPE_CHECKING:
    import httpx

__all__ = ["NotFetched", "Watch", "download", "watched"]

Watch = Callable[[str, int, int | None], None]
"""Told again and again: what is fetched, bytes that are here, bytes in all (None: nobody knows)."""
_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_HOPS = 5


class Patience(Limits):
    """A person waits for it: what cannot be reached is said after some seconds."""

    tries = 3
    pauses = (1.0, 4.0, 4.0, 4.0)
    silent = 30.0


class NotFetched(Exception):
    """What an address gave, or why it gave nothing, in one clause; ``wrong``: other bytes than those that were asked for."""

    def __init__(self, text: str, *, wrong: bool = False) -> None:
        super().__init__(text)
        self.wrong = wrong


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Who waits for what is fetched inside of this, in this thread."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    *,
    limit: int | None = None,
    limits: Limits | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> str:
    """Make ``target``, which does not exist, from https or file, or if a sha256 tells the bytes from http: their sha256.

    ``limit``: bytes that it may have. NotFetched; OSError where it cannot be written.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in ("https", "file") and not (scheme == "http" and sha256):
        raise NotFetched("only https and file are fetched, and http if its sha256 is given")
    try:
        return str(_Downloads(target.parent, limits or Patience(), limit).get(Want(url, sha256), str(target), given_up)["sha256"])
    except Problem as problem:
        broken = problem.__cause__
        raise NotFetched(str(broken), wrong=isinstance(broken, Broken) and broken.wrong) from None


class _Downloads(Transfers):
    def __init__(self, folder: Path, limits: Limits, limit: int | None) -> None:
        super().__init__(None, str(folder), limits)
        self._limit = limit

    def _part(self, path: str, want: Want, given_up: Callable[[], bool]) -> Part:
        return _Watched(want.url, self._limit, path, self._limits, given_up, sure=bool(want.sha256))

    def _http(self, url: str, part: Part) -> None:
        get(url, part, lambda url, headers, part: _open(url, headers, part, safe=not part.sure))


class _Watched(Part):
    def __init__(self, url: str, limit: int | None, *rest: Any, **more: Any) -> None:
        self._url, self._limit, self._watch = url, limit, _watch.get()
        super().__init__(*rest, **more)

    def add(self, data: bytes) -> None:
        super().add(data)
        if self._limit is not None and max(self.have, self.total or 0) > self._limit:
            raise Broken(f"it is larger than {self._limit // 10**6} MB", again=False)
        if self._watch is not None:
            self._watch(self._url, self.have, self.total)


class _Answer:
    """One answer, as :func:`icp.pilot.by_http.get` reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self.status, self.headers = response.status_code, response.headers
        length = response.headers.get("Content-Length", "")
        self.length = int(length) if length.isdigit() else None
        self.chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self._blocks = response.iter_raw()

    def read1(self, _: int) -> bytes:
        import httpx

        try:
            return next(self._blocks, b"")
        except httpx.HTTPError as error:
            raise OSError(_why(error)) from None


@contextlib.contextmanager
def _open(url: str, headers: dict[str, str], part: Part, *, safe: bool) -> Iterator[_Answer]:
    """``safe``: whatever redirects say, nothing but https is followed. Broken."""
    import httpx

    def look(request: httpx.Request) -> None:
        if safe and request.url.scheme != "https":
            raise Broken(f"it leads to {request.url}, which is not https", again=False)

    try:
        with httpx.Client(
            follow_redirects=True, max_redirects=_HOPS, timeout=part.limits.silent, headers={"User-Agent": "icp"}, event_hooks={"request": [look]}
        ) as client, client.stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                raise refusal(response.status_code, response.reason_phrase, response.headers, part)
            yield _Answer(response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise Broken(_why(error), again=False) from None
    except httpx.HTTPError as error:
        why = _why(error)
        raise Broken(why, again="CERTIFICATE" not in why.upper()) from None


def _why(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
