"""What a pilot says while its job runs: the text, cut anywhere, and a starter that listens, refuses, or is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icp.pilot import live, spool
from tests.starter import Starter

AGENT = "0123456789abcdef.0.aaaabbbbccccdddd"
KEYS = [f"{n:016x}" for n in range(40)]


def journal(*facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"n": n, "t": 1763757000.12 + n, **fact} for n, fact in enumerate(facts, 1)]


FACTS = journal(
    {"f": "started", "host": "node1"}, {"f": "claimed", "card": "c" * 16}, {"f": "staging", "a": KEYS[0], "k": "s" * 32}, {"f": "beat", "busy": 1},
    {"f": "running", "a": KEYS[0], "k": "s" * 32}, {"f": "ended", "a": KEYS[1], "k": "s" * 32, "r": "ok"},
)  # fmt: skip


def test_the_newest_of_each_is_said_by_number_and_checksum_of_its_line() -> None:
    told = live.parse(live.compose(AGENT, "node1", FACTS))
    assert told is not None and (told.agent, told.host) == (AGENT, "node1")
    assert [(one.n, one.word, one.at, one.about) for one in told.said] == [
        (2, "claimed", 1763757002, "c" * 16), (5, "running", 1763757005, KEYS[0]), (6, "ended", 1763757006, KEYS[1]),
    ]  # fmt: skip
    lines = {fact["n"]: spool.line(fact) for fact in FACTS}
    assert all(lines[one.n].startswith(one.crc.encode()) for one in told.said)


def test_no_passkey_is_said_and_nothing_that_chirp_or_a_classad_reads_otherwise() -> None:
    text = live.compose(AGENT, 'a "host"\\', FACTS)
    assert "ssss" not in text
    assert not set(text) & set(" \"\\\n\t'")
    told = live.parse(text)
    assert told is not None and told.host is None


def test_it_fits_and_what_is_said_of_many_is_the_newest() -> None:
    facts = journal({"f": "claimed", "card": "c" * 16}, *({"f": "running", "a": key, "k": "s" * 32} for key in KEYS))
    text = live.compose(AGENT, "n" * 64, facts)
    assert len(f'set_job_attr_delayed {live.ATTRIBUTE} "{text}"\n') < 993
    told = live.parse(text)
    assert told is not None and told.said[0].word == "claimed"
    about = [one.about for one in told.said[1:]]
    assert len(about) > 8 and about == KEYS[-len(about) :]


def test_what_is_cut_anywhere_says_less_and_never_something_else() -> None:
    text = live.compose(AGENT, "node1", FACTS)
    whole = live.parse(text)
    assert whole is not None
    for end in range(len(text)):
        told = live.parse(text[:end])
        if told is not None:
            # one may have lost the end of what it is about, which then is nothing that anybody knows
            assert all(one in whole.said or one.about not in (*KEYS, "c" * 16) for one in told.said)


@pytest.mark.parametrize("text", ["", "1", "1:x:y", f"2:{AGENT}:n", None, 7, "1:../../x:n", "\ud800", "1:" + "a" * 5000])
def test_what_is_no_text_says_nothing(text: Any) -> None:
    assert live.parse(text) is None


# --- the starter


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Starter]]:
    made: list[Starter] = []
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    monkeypatch.delenv("_CONDOR_CHIRP_CONFIG", raising=False)

    def make(code: str = "0\n") -> Starter:
        made.append(Starter(tmp_path, code))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_starter_is_told_with_its_cookie(starter: Callable[..., Starter]) -> None:
    one = starter()
    live.set_attribute("ChirpIcp", "1:x")
    assert one.heard == ["cookie secret", 'set_job_attr_delayed ChirpIcp "1:x"']


@pytest.mark.parametrize("code", ["-5\n", "", "what\n"])
def test_a_starter_that_refuses_or_breaks_off_is_no_more_than_an_error(starter: Callable[..., Starter], code: str) -> None:
    starter(code)
    with pytest.raises((OSError, ValueError)):
        live.set_attribute("ChirpIcp", "1:x")


def test_without_a_starter_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    monkeypatch.delenv("_CONDOR_CHIRP_CONFIG", raising=False)
    assert live.config() is None
    with pytest.raises(OSError, match="no starter"):
        live.set_attribute("ChirpIcp", "1:x")
    threads = threading.active_count()
    live.Teller(spool.Spool(str(tmp_path))).start()
    assert threading.active_count() == threads


def test_a_journal_is_followed_over_segments_and_torn_lines(tmp_path: Path) -> None:
    where = spool.Spool(str(tmp_path))
    folder = Path(where.agent(AGENT))
    folder.mkdir(parents=True)
    teller = live.Teller(where)
    assert teller.text() == ""
    lines = [spool.line(fact) for fact in FACTS]
    (folder / "journal.1").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert teller.text() == live.compose(AGENT, "node1", FACTS[:2])
    # the torn one is given up, and repeated in the next segment
    (folder / "journal.2").write_bytes(b"".join(lines[2:]))
    assert teller.text() == live.compose(AGENT, "node1", FACTS)
    assert teller.text() == live.compose(AGENT, "node1", FACTS)
