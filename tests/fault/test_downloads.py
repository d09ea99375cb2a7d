"""What this machine fetches, whatever a server does: the right bytes, or one clause that says what was wrong; nothing else stays."""

from __future__ import annotations

import hashlib
import io
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from web import Plan, Web

from icp import output
from icp.dsl.modules import CannotFetch
from icp.engine import downloads
from icp.engine.downloads import NotFetched, download, watched
from icp.engine.modules import Fetcher
from icp.engine.shipments import provide
from icp.errors import BadInput, Failed, Unreachable
from icp.model.definition import Origin
from icp.pilot.part import Limits

DATA = b"It was the best of times, it was the worst of times"


class Hurried(Limits):
    """Tries again at once, and has patience with a machine that is busy."""

    tries, pauses, silent, slow, slow_bytes = 3, (0.0, 0.0, 0.0, 0.0), 30.0, 30.0, 1000


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(downloads, "Patience", Hurried)
    served = Web()
    served.files["/t.tar"] = DATA
    yield served
    served.close()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def said(web: Web, tmp_path: Path, sha256: str | None = sha(DATA), path: str = "/t.tar") -> str:
    """What a failure is told with; nothing is left of it."""
    with pytest.raises(NotFetched) as caught:
        download(web.url(path), tmp_path / "target", sha256)
    assert os.listdir(tmp_path) == []
    return str(caught.value)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_it_comes_whole(web: Web, tmp_path: Path, framing: str) -> None:
    web.plan = Plan(framing=framing)
    assert download(web.url("/t.tar"), tmp_path / "target", sha(DATA)) == sha(DATA)
    assert (tmp_path / "target").read_bytes() == DATA and os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut", range(0, len(DATA), 7))
def test_where_it_was_cut_it_is_gone_on_with(web: Web, tmp_path: Path, framing: str, cut: int) -> None:
    web.plans = [Plan(cut=cut, framing=framing)]
    download(web.url("/t.tar"), tmp_path / "target", sha(DATA))
    assert (tmp_path / "target").read_bytes() == DATA and len(web.requests) == 2
    if framing == "length" and cut:
        assert web.requests[1].headers["range"] == f"bytes={cut}-"


@pytest.mark.parametrize(("plan", "words", "requests"), [
    (Plan(status=404), "the server answered 404 Said", 1),
    (Plan(status=403), "the server answered 403 Said", 1),
    (Plan(status=500), r"the server answered 500 Said \(after 3 tries\)", 3),
    (Plan(status=429), r"the server answered 429 Said \(after 3 tries\)", 3),
    (Plan(cut=-1), r"(?i)disconnected.* \(after 3 tries\)", 3),
    (Plan(cut=5, ranges=False), r"it broke off behind 5 bytes \(.*\) \(after 3 tries\)", 3),
    (Plan(body=b"other"), rf"it has sha256 {sha(b'other')}, expected {sha(DATA)} \(after 2 tries\)", 2),
    (Plan(trickle=0.2), r"(only \d+ bytes came|no answer in time|it broke off)", 3),
])  # fmt: skip
def test_what_does_not_come_is_said_in_a_clause(
    web: Web, tmp_path: Path, plan: Plan, words: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    web.plan = plan
    if plan.trickle:
        monkeypatch.setattr(Hurried, "slow", 0.3)
    assert re.search(words, said(web, tmp_path))
    assert len(web.requests) == requests


def test_a_server_that_is_not_there_or_shows_a_certificate_that_nobody_vouches_for(web: Web, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match=r"(?i)refused.*after 3 tries"):
        download("http://127.0.0.1:9/x", tmp_path / "target", sha(DATA))
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    with pytest.raises(NotFetched, match="CERTIFICATE_VERIFY_FAILED") as caught:
        download(web.url("/t.tar").replace("http:", "https:").replace("127.0.0.1", "localhost"), tmp_path / "target")
    assert "tries" not in str(caught.value)


def test_a_redirect_is_followed_but_never_from_https_to_what_anybody_can_change(web: Web, tmp_path: Path) -> None:
    web.plans = [Plan(status=302, location="/t.tar")]
    download(web.url("/elsewhere"), tmp_path / "target", sha(DATA))
    assert (tmp_path / "target").read_bytes() == DATA
    (tmp_path / "target").unlink()
    web.plan = Plan(status=302, location="/again")
    assert "redirects" in said(web, tmp_path)
    web.plan = Plan(status=302, location="ftp://127.0.0.1/t.tar")
    assert "ftp" in said(web, tmp_path)
    part = downloads.Part(None, Hurried(), lambda: False)
    leads = pytest.raises(downloads.Broken, match=r"it leads to http://127\.0\.0\.1.*, which is not https")
    with leads, downloads._open(web.url("/t.tar"), {}, part, safe=True):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "ssh://127.0.0.1/x", "gsiftp://x/y", "x"])
def test_without_a_checksum_nothing_but_https_and_files_of_this_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotFetched, match="only https and file are fetched, and http if its sha256 is given"):
        download(url, tmp_path / "target")


def test_what_is_larger_than_it_may_be_is_not_fetched_to_its_end(web: Web, tmp_path: Path) -> None:
    web.files["/t.tar"] = bytes(3_000_000)
    with pytest.raises(NotFetched, match="it is larger than 1 MB"):
        download(web.url("/t.tar"), tmp_path / "target", sha(web.files["/t.tar"]), limit=1_000_000)
    assert os.listdir(tmp_path) == []


def test_both_who_fetch_say_what_it_was_for_and_keep_what_is_right(web: Web, tmp_path: Path) -> None:
    stock, url = tmp_path / "stock", web.url("/t.tar")
    web.plans = [Plan(cut=9)]
    assert provide(stock, url, sha(DATA), "software.x").read_bytes() == DATA and len(web.requests) == 2
    assert provide(stock, url, sha(DATA), "software.x").exists() and len(web.requests) == 2
    with pytest.raises(BadInput, match=f"software.x: {url}: it has sha256 {sha(DATA)}, expected {sha(b'1')}"):
        provide(stock, url, sha(b"1"), "software.x")
    web.plan = Plan(status=404)
    with pytest.raises(Unreachable, match=f"software.x: {url} cannot be fetched: the server answered 404 Said"):
        provide(stock, url, sha(b"1"), "software.x")
    assert os.listdir(stock) == [sha(DATA)]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Failed, match=r"cannot be kept in .*: Not a directory"):
        provide(tmp_path / "file" / "stock", url, sha(DATA), "software.x")
    text = b"class One: pass\n"
    web.plan, web.files["/m.py"] = Plan(), text
    found = Fetcher(tmp_path)(Origin(web.url("/m.py"), f"sha256:{sha(text)}"), "")
    assert found.text.encode() == text
    with pytest.raises(CannotFetch, match="cannot be fetched: only https"):
        Fetcher(tmp_path)(Origin(web.url("/m.py")), "")
    assert sorted(os.listdir(tmp_path / "modules")) == [sha(text)[:16]]


def test_who_waits_longer_than_a_second_sees_how_far_it_is(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now, screen = [100.0], Terminal()
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", screen)
    progress = output.Progress()
    progress("https://x/a", 1_000_000, 4_000_000)
    assert screen.getvalue() == ""
    now[0] += 1.1
    progress("https://x/\x1ba", 2_000_000, 4_000_000)
    progress("https://x/a", 3_000_000, 4_000_000)
    assert screen.getvalue() == "\r\x1b[Khttps://x/\\x1ba: 2.0 MB of 4.0 MB"
    progress.close()
    assert screen.getvalue().endswith("\r\x1b[K")
    seen: list[tuple[str, int, int | None]] = []
    with watched(lambda *one: seen.append(one)):
        download(web.url("/t.tar"), tmp_path / "target", sha(DATA))
    assert seen[-1] == (web.url("/t.tar"), len(DATA), len(DATA))
