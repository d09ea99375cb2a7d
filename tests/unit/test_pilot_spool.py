"""The format of the spool: frames, journal lines, names; and the writer of journals on a disk that fails."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.pilot import faults, journal, spool
from icp.pilot.disk import Disk, remove_tree
from icp.pilot.framing import Frame, FrameParser, frame
from icp.pilot.spool import BEGIN, Position, line, take

KINDS = st.sampled_from(["hello", "card", "journal", "end"])
METAS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
FRAMES = st.lists(st.tuples(KINDS, METAS, st.binary(max_size=50)), max_size=6)


# --- frames


@given(FRAMES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_frames_come_out_whatever_the_pieces(given_frames: list[tuple[str, Any, bytes]], chance: random.Random) -> None:
    data = b"".join(frame(*one) for one in given_frames)
    parser, found, at = FrameParser(), list[Frame](), 0
    while at < len(data):
        step = chance.randint(1, 40)
        found += parser.feed(data[at : at + step])
        at += step
    assert [tuple(one) for one in found] == given_frames
    assert (parser.broken, parser.pending) == (None, 0)


@given(FRAMES, st.integers(0, 10000), st.binary(max_size=20))
@settings(deadline=None)
def test_of_a_cut_stream_the_whole_frames_count(
    given_frames: list[tuple[str, Any, bytes]], cut: int, rubbish: bytes
) -> None:
    pieces = [frame(*one) for one in given_frames]
    data = b"".join(pieces)
    cut = cut % (len(data) + 1)
    whole, size = 0, 0
    while whole < len(pieces) and size + len(pieces[whole]) <= cut:
        size += len(pieces[whole])
        whole += 1
    parser = FrameParser()
    found = parser.feed(data[:cut])
    assert [tuple(one) for one in found] == given_frames[:whole]
    # What follows a cut never makes another frame of the torn one than itself.
    for one in parser.feed(rubbish):
        assert tuple(one) in given_frames


@given(FRAMES.filter(bool), st.integers(0, 10000), st.integers(1, 255))
@settings(deadline=None)
def test_a_changed_byte_is_noticed(given_frames: list[tuple[str, Any, bytes]], where: int, change: int) -> None:
    data = bytearray(b"".join(frame(*one) for one in given_frames))
    data[where % len(data)] ^= change
    found = FrameParser().feed(bytes(data))
    assert [tuple(one)[1:] for one in found] == [one[1:] for one in given_frames[: len(found)]]


def test_a_banner_is_no_frame() -> None:
    parser = FrameParser()
    assert parser.feed(b"Welcome to the cluster\n" + frame("end", {})) == []
    assert parser.broken == "no frame begins with b'Welcome to the cluster'"
    parser = FrameParser()
    assert parser.feed(b"x" * 300) == []
    assert parser.broken is not None


def test_a_frame_is_as_the_page_says() -> None:
    assert (
        frame("cancel", {"attempt": "5d0c7b1e9a3f4426"}) == b'ICP1 cancel 30 0 e092e9a9\n{"attempt":"5d0c7b1e9a3f4426"}'
    )
    assert line({"n": 2, "t": 1763757001.4, "f": "claimed", "card": "c41f09b27d8e5a60"}) == (
        b'b82d6387 {"n":2,"t":1763757001.4,"f":"claimed","card":"c41f09b27d8e5a60"}\n'
    )


# --- journals


def fact(number: int) -> dict[str, Any]:
    return {"n": number, "f": "beat", "x": "y" * (number % 7)}


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """Segments as a writer may leave them: each repeats from any earlier durable fact, and may end torn or in
    rubbish.
    """
    segments, last, top = [], 0, 0
    for _ in range(draw(st.integers(1, 5))):
        begin = draw(st.integers(max(0, last - 3), last)) + 1
        until = draw(st.integers(begin - 1, begin + 6))
        data = b"".join(line(fact(number)) for number in range(begin, until + 1))
        torn = draw(st.sampled_from(["no", "cut", "rubbish", "zeros", "flip"]))
        durable = until
        if torn == "cut" and data:
            size = draw(st.integers(0, len(data)))
            data = data[:size]
        elif torn == "rubbish":
            data += draw(st.binary(max_size=30))
        elif torn == "zeros":
            data += b"\0" * draw(st.integers(1, 50))
        elif torn == "flip" and data:
            at = draw(st.integers(0, len(data) - 1))
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        if torn in ("cut", "flip"):
            durable = begin - 1
            for raw in data.splitlines(keepends=True):
                if raw != line(fact(durable + 1)):
                    break
                durable += 1
        last, top = min(max(last, durable), until) if until >= begin else last, max(top, until)
        segments.append(data)
    return top, segments


@given(histories(), st.data())
@settings(deadline=None, max_examples=300)
def test_no_fact_comes_twice_or_out_of_order(history: tuple[int, list[bytes]], data: st.DataObject) -> None:
    _, segments = history
    position, numbers, visible = BEGIN, list[int](), [0] * len(segments)
    for _ in range(6):
        # What an exchange sees: each segment up to somewhere, never less than before; some doubled or left out.
        for index, content in enumerate(segments):
            visible[index] = data.draw(st.integers(visible[index], len(content)))
        chunks = []
        for index, content in enumerate(segments):
            number = index + 1
            if number < position.segment:
                continue
            begin = data.draw(st.integers(0, position.offset)) if number == position.segment else 0
            chunks.append((number, begin, content[begin : max(begin, visible[index])]))
        limit = data.draw(st.none() | st.integers(1, 4))
        if data.draw(st.booleans()):
            chunks = [one for one in chunks for _ in range(2)]
        facts, position = take(position, chunks, limit)
        assert limit is None or len(facts) <= limit
        for one in facts:
            assert one == fact(one["n"])
        numbers += [one["n"] for one in facts]
    assert numbers == list(range(1, len(numbers) + 1))
    assert position.seq == len(numbers)


@given(histories())
@settings(deadline=None, max_examples=200)
def test_what_was_durable_is_read(history: tuple[int, list[bytes]]) -> None:
    """Reading in steps gives the same facts as reading at once, and never fewer than the first whole lines."""
    _, segments = history
    chunks = [(index + 1, 0, content) for index, content in enumerate(segments)]
    at_once, _ = take(BEGIN, chunks)
    stepwise, position = list[dict[str, Any]](), BEGIN
    while True:
        facts, after = take(position, chunks, 1)
        stepwise += facts
        if after == position:
            break
        position = after
    assert stepwise[: len(at_once)] == at_once


def test_a_stream_whose_beginning_was_deleted() -> None:
    chunks = [(5, 0, b"".join(line(fact(number)) for number in range(41, 45)))]
    assert take(BEGIN, chunks) == ([], BEGIN)
    facts, position = take(BEGIN, chunks, oldest=True)
    assert [one["n"] for one in facts] == [41, 42, 43, 44]
    assert position == Position(5, len(chunks[0][2]), 44)
    gap = [(1, 0, line(fact(1))), (3, 0, line(fact(4)))]
    assert [one["n"] for one in take(BEGIN, gap, oldest=True)[0]] == [1]


def test_too_long_a_line_is_not_taken() -> None:
    long = line({"n": 1, "x": "y" * spool.LINE_LIMIT})
    assert take(BEGIN, [(1, 0, long)]) == ([], BEGIN)


def read(folder: Path, stream: str = "journal") -> list[dict[str, Any]]:
    chunks = [
        (number, 0, (folder / f"{stream}.{number}").read_bytes()) for number, _ in journal.segments(str(folder), stream)
    ]
    return take(BEGIN, chunks, oldest=True)[0]


class Failing(Disk):
    """Fails as told: each write, sync or creation asks the plan."""

    def __init__(self, plan: list[str]) -> None:
        self.plan = plan

    def _next(self) -> str:
        return self.plan.pop(0) if self.plan else "ok"

    def append_to(self, path: str, new: bool = True) -> int:
        if self._next() == "fail":
            raise OSError(errno.ENOSPC, "full")
        return super().append_to(path, new)

    def write(self, fd: int, data: bytes) -> int:
        what = self._next()
        if what == "fail":
            raise OSError(errno.ENOSPC, "full")
        if what == "short":
            return super().write(fd, data[: len(data) // 2])
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        if self._next() == "fail":
            raise OSError(errno.EIO, "lost")
        super().sync(fd)


@given(
    st.lists(st.sampled_from(["ok", "ok", "fail", "short"]), max_size=30),
    st.lists(st.integers(1, 3), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=200)
def test_a_writer_loses_and_doubles_nothing_on_a_failing_disk(plan: list[str], groups: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = journal.Journal(name, "journal", disk=Failing(plan))
        total = 0
        for size in groups:
            for _ in range(size):
                total += 1
                assert stream.add({"f": "beat", "i": total}) == total
            stream.flush()
            # What the writer calls durable can be read, at once and later.
            assert len(read(folder)) >= stream.durable
        while not stream.flush():
            assert stream.trouble is not None
        stream.close()
        assert stream.durable == total
        assert [one["i"] for one in read(folder)] == list(range(1, total + 1))


def test_segments_roll_and_long_facts_are_shortened(tmp_path: Path) -> None:
    stream = journal.Journal(str(tmp_path), "journal")
    for index in range(50):
        stream.add({"f": "ended", "r": "error", "err": "e" * 50000, "i": index})
        assert stream.flush()
    stream.add({"f": "ended", "r": "error", "err": "e" * 100000, "stats": {"x" * 50: 1}})
    stream.add({"f": "ended", "r": "ok", "out": [[index, "name" * 20, 1, "0" * 64] for index in range(1000)]})
    stream.add({"f": "ended", "r": "ok", "out": [[0, "x", 1, "0" * 64]], "stats": {"n": 1}, "moved": [["in", "x" * 70000]]})
    assert stream.flush()
    stream.close()
    assert len(journal.segments(str(tmp_path), "journal")) == 3
    facts = read(tmp_path)
    assert len(facts) == 53
    assert (facts[52]["r"], facts[52]["stats"], "moved" in facts[52]) == ("ok", {"n": 1}, False)
    assert facts[50]["err"] == "e" * 2000
    assert (facts[51]["r"], facts[51]["kind"]) == ("error", "payload")


# --- names


@pytest.mark.parametrize("name", ["a", "a/b.i3", "x" * 255, "ü", "-n", "a b", "..x", "a..b", "*"])
def test_names_that_may_be(name: str) -> None:
    assert spool.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\0", "a\nb", "x" * 256, "ü" * 128, None, 3, "\udc80"]
)
def test_names_that_may_not_be(name: Any) -> None:
    with pytest.raises(spool.BadName):
        spool.check_name(name)


def test_names_of_cards_sort_by_priority() -> None:
    names = [
        spool.join_card_name(priority, "f317f042a01943ae", "c41f09b27d8e5a60") for priority in (0, 5000, -3, 17, 9999)
    ]
    assert names[0] == "5000-f317f042a01943ae-c41f09b27d8e5a60"
    assert min(names) == names[1] == names[4]
    assert spool.split_card_name(names[3]) == ("4983", "f317f042a01943ae", "c41f09b27d8e5a60")
    assert spool.card_id(names[3]) == spool.card_id("c41f09b27d8e5a60") == "c41f09b27d8e5a60"
    with pytest.raises(spool.BadName):
        spool.split_card_name("5000-../../x-c41f")


# --- faults and trees


def test_faults_are_armed_by_text(tmp_path: Path) -> None:
    token = tmp_path / "a:b"
    token.touch()
    try:
        faults.arm(f"exchange.moved:card:2:{token}:enospc;other:1:{token}")
        faults.visit("exchange.moved:card")
        with pytest.raises(OSError, match="No space left"):
            faults.visit("exchange.moved:card")
        assert not token.exists()
        faults.visit("exchange.moved:card")
        faults.visit("other")  # The token is gone: it happened elsewhere.
        with pytest.raises(ValueError, match="ICP_FAULT"):
            faults.arm("nonsense")
    finally:
        faults.arm(None)


def test_a_tree_is_removed_whatever_its_modes(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "tree"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/c").touch(0o000)
    (folder / "link").symlink_to(outside)
    (folder / "a/b").chmod(0o000)
    (folder / "a").chmod(0o000)
    assert remove_tree(str(folder))
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "kept").exists()
    assert remove_tree(str(folder))


def test_positions_are_plain() -> None:
    assert json.loads(json.dumps(Position(1, 2, 3))) == [1, 2, 3]
