"""The site's end of an exchange, killed between any two of its steps, given wrong serials, or a spool that is not
safe.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilot_site import LEDGER, Site, attempt, sites, tree

from icp.pilot import framing, spool

KINDS = ["need", "blob", "card", "recall", "fence", "cancel", "drain", "submit", "kill", "drop", "ack"]
AGENT = "0123456789abcdef.0.fedcba9876543210"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)


def everything(site: Site) -> list[bytes]:
    """One order of each kind, on a spool that has what they are about; the same ids for every site."""
    old = json.dumps({"card": "aaaaaaaaaaaaaaaa", "format": 1, "attempts": [{"a": "a1"}]}).encode()
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    name = spool.join_card_name(5, site.need, "cccccccccccccccc")
    recalled = spool.join_card_name(5, site.need, "bbbbbbbbbbbbbbbb")
    site.order(framing.frame("card", {"name": recalled}, old))
    folder = Path(site.where.agents) / AGENT
    (folder / "claimed").mkdir(parents=True)
    (folder / "claimed" / spool.join_card_name(5, site.need, "aaaaaaaaaaaaaaaa")).write_bytes(old)
    (folder / "journal.1").write_bytes(spool.line({"n": 1, "t": 1.0, "f": "started"}))
    ended = Path(site.where.agents) / AGENT.replace("0.f", "1.f")
    (ended / "claimed").mkdir(parents=True)
    (ended / "journal.1").write_bytes(spool.line({"n": 1, "t": 1.0, "f": "stopped"}))
    (Path(site.where.store) / "dddddddddddddddd").mkdir()
    (Path(site.where.store) / "dddddddddddddddd" / "x").touch()
    count = "echo x >> count; wc -l < count; pwd; cat hello"
    return [
        *site.needs(),
        framing.frame("blob", {"sha256": digest}, b"hello"),
        framing.frame("card", {"name": name}, old),
        framing.frame("recall", {"card": recalled}),
        framing.frame("recall", {"card": "eeeeeeeeeeeeeeee"}),
        framing.frame("fence", {"agent": AGENT}),
        framing.frame("cancel", {"attempt": "a1"}),
        framing.frame("drain", {"pilot": "p0"}),
        framing.frame("submit", {"pilot": "p1", "argv": ["sh", "-c", count], "files": {"hello": "hello"}}),
        framing.frame("kill", {"pilot": "p1", "argv": ["echo", "gone", "{dir}"]}),
        framing.frame("drop", {"attempt": "dddddddddddddddd"}),
        framing.frame("ack", {"agent": AGENT.replace("0.f", "1.f"), "stream": "journal", "segment": 1}),
    ]


def timeless(value: Any, base: Path) -> str:
    """An answer or a tree without its times and its directory."""
    text = repr(value).replace(str(base)[:30], "")
    return text if "'t':" not in text else repr(_without_times(value)).replace(str(base), "BASE")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key != "t"}
    if isinstance(value, bytes) and value.startswith(b"{"):
        return _without_times(json.loads(value))
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def outcome(site: Site, env: dict[str, str] | None) -> tuple[Any, Any]:
    """The answer to everything, sent until it is answered, and the spool afterwards."""
    applied = site.order(*everything(site), env=env).one("applied")
    files = tree(site.root, leave=["lock", "swept"])
    return json.loads(
        json.dumps(_without_times(applied)).replace(json.dumps(str(site.base))[1:-1], "BASE")
    ), _without_times(
        {
            name: None
            if data is None
            else data.replace(str(site.base).encode(), b"BASE").replace(
                json.dumps(str(site.base))[1:-1].encode(), b"BASE"
            )
            for name, data in files.items()
        }
    )


POINTS = [f"exchange.{one}:1" for one in ("tmp", "renamed", "applied", "owner", "removed")]
POINTS += (
    [f"exchange.locked:{visit}" for visit in (1,)]
    + [f"exchange.moved:{kind}:1" for kind in KINDS]
    + ["exchange.moved:recall:2"]
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    for site in sites(tmp_path_factory.mktemp("undisturbed")):
        return outcome(site, None)
    raise AssertionError


def test_the_undisturbed_outcome(undisturbed: tuple[Any, Any]) -> None:
    applied, files = undisturbed
    assert list(applied["recall"].values()) == ["recalled", "claimed"]
    assert applied["fence"] == {AGENT: {"began": [], "unbegun": ["aaaaaaaaaaaaaaaa"]}}
    assert applied["submit"]["p1"]["rc"] == 0
    assert applied["submit"]["p1"]["out"].split("\n", 1)[0].strip() == "1"
    assert applied["submit"]["p1"]["out"].endswith("hello")
    assert applied["kill"]["p1"]["out"] == "gone BASE/spool/pilots/p1\n"
    assert {"recalled/aaaaaaaaaaaaaaaa", "recalled/bbbbbbbbbbbbbbbb", "control/cancel/a1", "control/drain/p0"} <= set(
        files
    )
    assert not [name for name in files if name.startswith(("store/", "incoming/", "agents/"))]


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_sent_again(site: Site, undisturbed: tuple[Any, Any], point: str) -> None:
    token = site.base / "token"
    env = {"ICP_FAULT": f"{point}:{token}"}
    # Only the second exchange meets it: the first makes the spool.
    site.order()
    token.touch()
    found = outcome(site, env)
    assert not token.exists(), "the fault did not come"
    assert _numbered(found) == _numbered(undisturbed)


def _numbered(found: tuple[Any, Any]) -> Any:
    """Without what counts exchanges."""
    applied, files = found
    applied = {**applied, "serial": 0}
    kept = {name: data for name, data in files.items() if not name.startswith(("applied/", "owner"))}
    return applied, kept


def test_killed_in_the_middle_of_a_submit(site: Site) -> None:
    """Whether the batch system took it is not known, and it is never submitted twice."""
    site.order()
    folder = Path(site.where.pilots) / "p1"
    (folder / ".submit").mkdir(parents=True)
    reply = site.order(framing.frame("submit", {"pilot": "p1", "argv": ["touch", "twice"], "files": {}}))
    assert reply.one("applied")["submit"]["p1"]["rc"] is None
    assert not (folder / "twice").exists()


def test_serials(site: Site) -> None:
    assert site.send(None).one("owner")["created"]
    orders = site.needs()
    first = site.order(*orders)
    before = tree(site.root)
    again = site.send(orders)
    assert again.one("applied") == first.one("applied")
    assert not again.one("owner")["created"]
    assert tree(site.root) == before
    refusals = {
        "copy": site.send([*orders, framing.frame("cancel", {"attempt": "x"})]),
        "behind": site.send(orders, serial=0),
        "ahead": site.send(orders, serial=3),
        "other ledger": site.send(None, ledger="99999999-6a0e-4a53-9d8e-3f1f2f1f7c11"),
    }
    assert {why: reply.one("refused")["why"] for why, reply in refusals.items()} == {why: why for why in refusals}
    assert {reply.code for reply in refusals.values()} == {4}
    assert site.send(None, serial=0).one("refused") == {"why": "behind", "epoch": 1, "serial": 1}
    assert tree(site.root) == before


def test_adoption_raises_the_epoch_and_shuts_out_the_old_ledger(site: Site) -> None:
    site.order(*site.needs())
    site.order(framing.frame("cancel", {"attempt": "x"}))
    adopted = site.send(None, epoch=2, serial=0).one("owner")
    assert (adopted["epoch"], adopted["serial"]) == (2, 0)
    assert site.send(None).one("refused")["why"] == "copy"
    reply = site.send([framing.frame("cancel", {"attempt": "y"})], epoch=2, serial=1)
    assert reply.one("applied")["serial"] == 1
    assert sorted(os.listdir(site.where.cancel)) == ["x", "y"]


def test_orders_that_were_cut_or_changed_are_not_applied(site: Site) -> None:
    site.order()
    before = tree(site.root)
    body = framing.frame("cancel", {"attempt": "x"})
    hello = {"ledger": LEDGER, "epoch": 1, "serial": 2, "orders": {"bytes": len(body), "sha256": "0" * 64}}
    whole = framing.frame("hello", hello) + body + framing.frame("query", {}) + framing.frame("end", {})
    for data in (whole, whole[:-3], whole[:40], b"", b"banner\n" + whole):
        done = site.run("exchange", "--root", str(site.root), data=data)
        parser = framing.FrameParser()
        assert [one.kind for one in parser.feed(done.stdout)] == ["refused", "end"]
        assert done.returncode == 4
    assert tree(site.root) == before
    bad = [
        framing.frame("card", {"name": "../../x"}, b"{}"),
        framing.frame("cancel", {"attempt": "../x"}),
        framing.frame("fence", {"agent": ".."}),
        framing.frame("frobnicate", {}),
        framing.frame("drop", {"attempt": ""}),
        framing.frame("ack", {"agent": AGENT, "stream": "../x", "segment": 1}),
    ]
    for one in bad:
        assert site.send([one], serial=2).one("refused")["why"].startswith("bad orders")
    assert tree(site.root, leave=["incoming"]) == {
        name: data for name, data in before.items() if not name.startswith("incoming")
    }
    assert site.send(None, serial=1).code == 0


def test_unsafe_spools_are_refused(site: Site) -> None:
    site.order()
    site.root.chmod(0o755)
    assert site.send(None).one("refused")["why"].startswith("unsafe: ")
    site.root.chmod(0o700)
    site.base.chmod(0o777)
    assert "everybody may write" in site.send(None).one("refused")["why"]
    site.base.chmod(0o700)
    assert site.send(None).code == 0
    moved = site.base / "moved"
    site.root.rename(moved)
    site.root.symlink_to(moved)
    assert "symbolic link" in site.send(None).one("refused")["why"]


def test_a_full_disk_is_no_answer_and_the_orders_come_again(site: Site) -> None:
    site.order()
    token = site.base / "token"
    token.touch()
    site.serial += 1
    orders = [*site.needs(), framing.frame("cancel", {"attempt": "x"})]
    reply = site.send(orders, env={"ICP_FAULT": f"exchange.moved:need:1:{token}:enospc"})
    assert (reply.code, reply.all("end")) == (1, [])
    assert "No space left" in reply.err
    assert site.send(orders).one("applied")["serial"] == site.serial


def test_an_answer_is_bounded_and_says_that_there_is_more(site: Site) -> None:
    site.order()
    for index in range(4):
        folder = Path(site.where.agents) / AGENT.replace("0.f", f"{index}.f")
        (folder / "claimed").mkdir(parents=True)
        number, data = 0, b""
        while len(data) < 3_000_000:
            number += 1
            data += spool.line({"n": number, "t": 1.0, "f": "beat", "x": "y" * 60000})
        (folder / "journal.1").write_bytes(data)
    sizes: list[tuple[int, bool]] = []
    rounds = 0
    while not rounds or sizes[-1][1]:
        reply = site.tick()
        sizes.append((len(reply.raw), reply.one("end")["more"]))
        rounds += 1
    assert rounds == 2
    assert max(size for size, _ in sizes) < framing.ANSWER_LIMIT + 2000
    assert len(site.of("beat")) == 4 * number


def test_a_late_exchange_waits_for_the_lock_and_is_harmless(site: Site) -> None:
    site.order()
    orders = [site.card(attempt("true"))]
    site.serial += 1
    body = b"".join(orders)
    import hashlib

    hello = {
        "ledger": LEDGER,
        "epoch": 1,
        "serial": site.serial,
        "orders": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()},
    }
    data = framing.frame("hello", hello) + body + framing.frame("query", {}) + framing.frame("end", {})
    argv = [sys.executable, "-I", "-S", str(site.program), "exchange", "--root", str(site.root)]
    many = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=site.env) for _ in range(4)]
    for one in many:
        assert one.stdin is not None
        one.stdin.write(data)
        one.stdin.close()
    answers = []
    for one in many:
        assert one.stdout is not None
        answers.append([frame.meta for frame in framing.FrameParser().feed(one.stdout.read()) if frame.kind == "applied"])
        one.stdout.close()
        assert one.wait() == 0
    assert answers == [answers[0]] * 4
    assert len(os.listdir(site.where.inbox)) == 1


def test_links_in_the_store_are_not_followed(site: Site) -> None:
    site.order()
    folder = Path(site.where.store) / "dddddddddddddddd"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "inner").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    want = [
        ["dddddddddddddddd", index, name, 0, 100]
        for index, name in enumerate(["link", "inner/passwd", "pipe", "no", "."])
    ]
    reply = site.tick(want=want)
    assert not reply.all("file")
    assert [one.meta["index"] for one in reply.all("missing")] == [0, 1, 2, 3, 4]


def test_the_batch_system_is_asked(site: Site) -> None:
    site.order()
    reply = site.tick(batch=[["sh", "-c", "echo out; echo err >&2; exit 3"], ["/no/such"]])
    first, second = reply.all("batch")
    assert (first.meta["index"], first.meta["rc"], first.body, first.meta["err"]) == (0, 3, b"out\n", "err\n")
    assert second.meta["rc"] == 127
    assert reply.one("health")["free"] > 0
