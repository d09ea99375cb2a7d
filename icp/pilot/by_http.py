"""Files by http and https: fetched, gone on with where they broke off, put and read back (hides urllib)."""

import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request

from .part import Broken, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["get", "put", "refusal", "remove"]

_BLOCK = 1 << 18
_AGAIN = (408, 423, 425, 429)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
_HOPS = 5


def get(url: str, part: Part, opened: "Callable[[str, dict[str, str], Part], Any] | None" = None) -> None:
    """One try; Broken. Bytes are only ever put behind others of the same version of the file: the server must name it
    as it did before. ``opened(url, headers, part)``: what opens it in place of urllib.
    """
    headers = {"Accept-Encoding": "identity"}
    if part.have and part.mark is not None:
        headers.update({"Range": f"bytes={part.have}-", "If-Range": part.mark})
    else:
        part.restart()
    if part.total is not None and part.have >= part.total:
        part.restart()
        headers = {"Accept-Encoding": "identity"}
    with opened(url, headers, part) if opened else _open(url, "GET", headers, None, part) as answer:
        _begin(answer, part)
        while True:
            try:
                data = answer.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise Broken(f"it broke off behind {part.have} bytes ({_why(error)})") from error
            if not data:
                break
            part.add(data)
    if part.total is not None and part.have != part.total:
        if part.have > part.total:
            part.restart()
        raise Broken(f"it broke off behind {part.have} of {part.total} bytes")


def _begin(answer: "Any", part: Part) -> None:
    """Reads the head of an answer: whether its bytes begin a file, or go on with the one that is there."""
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    strong = etag if etag and not etag.startswith("W/") else None
    # A date is no name of bytes; it must do where a checksum tells in the end.
    mark = strong or (modified if part.sure else None)
    if answer.status == 206:
        found = _RANGE.match(answer.headers.get("Content-Range", "").strip())
        total = int(found.group(3)) if found and found.group(3) != "*" else None
        same = total is None or part.total is None or total == part.total
        if not part.have or not found or int(found.group(1)) != part.have or mark != part.mark or not same:
            part.restart()
            raise Broken("the server went on with another file, or at another place")
        part.total = total if part.total is None else part.total
        return
    if answer.status not in (200, 203):
        raise Broken(f"the server answered {answer.status} without the file", again=False)
    part.restart()
    part.mark = mark
    part.total = answer.length
    if answer.length is None and not answer.chunked and not part.sure and part.size is None:
        text = "the server does not say how long it is: whether all of it comes could not be told without sha256 or size"
        raise Broken(text, again=False)


class _Source:
    """A file that is sent, as long as somebody wants it."""

    def __init__(self, path: str, given_up: "Callable[[], bool]") -> None:
        self._stream, self._given_up = open(path, "rb"), given_up

    def read(self, size: int = _BLOCK) -> bytes:
        if self._given_up():
            raise Broken("given up", again=False)
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


def put(url: str, path: str, part: Part) -> None:
    """Sends a file; whether it arrived right is for the caller to see. Broken."""
    for _ in range(_HOPS):
        source = _Source(path, part.given_up)
        size = os.stat(path).st_size
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        try:
            with _open(url, "PUT", headers, source, part) as answer:
                answer.read1(_BLOCK)
            return
        except _Moved as moved:
            url = urllib.parse.urljoin(url, str(moved))
            if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise Broken(f"the server sends us on to {url[:200]}", again=False) from None
        finally:
            source.close()
    raise Broken("the server sends us on and on", again=False)


def remove(url: str, part: Part) -> None:
    """As far as that is possible."""
    try:
        with _open(url, "DELETE", {}, None, part) as answer:
            answer.read1(_BLOCK)
    except (Broken, _Moved):
        pass


class _Moved(Exception):
    """The text is where to."""


def _open(url: str, method: str, headers: "dict[str, str]", data: "Any", part: Part) -> "Any":
    try:
        request = urllib.request.Request(url, data=data, headers={"User-Agent": "icp", **headers}, method=method)  # noqa: S310 - whoever calls looked at the scheme
        return urllib.request.build_opener().open(request, timeout=part.limits.silent)
    except urllib.error.HTTPError as error:
        with error:
            code, where = error.code, error.headers.get("Location")
            if method == "PUT" and code in (301, 302, 307, 308) and where:
                raise _Moved(where) from None
            raise refusal(code, str(error.reason), error.headers, part) from None
    except urllib.error.URLError as error:
        reason = error.reason
        wrong = isinstance(reason, ssl.SSLError) and "CERTIFICATE" in str(reason).upper()
        raise Broken(_why(reason), again=not wrong) from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_why(error), again=not isinstance(error, http.client.InvalidURL)) from error
    except ValueError as error:
        raise Broken(str(error), again=False) from error


def refusal(code: int, reason: str, headers: "Any", part: Part) -> Broken:
    """What an answer without the file means."""
    if code == 416:
        part.restart()
    again = code >= 500 or code in _AGAIN or code == 416
    after = headers.get("Retry-After") or ""
    return Broken(f"the server answered {code} {reason}".rstrip(), again, min(60.0, float(after)) if after.isdigit() else 0.0)


def _why(error: "Any") -> str:
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
