"""The frames in which orders and answers of an exchange travel (hides every byte of them).

Pure: the engine reads frames with the very functions that the pilot uses.
"""

import collections
import json
import re
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["ANSWER_LIMIT", "BadFrame", "Frame", "FrameParser", "conversations", "first_frame_size", "frame", "read_until_end"]

ANSWER_LIMIT = 8 * 1000 * 1000
"""Bytes of an answer, after which it ends with ``more``."""

MAGIC = b"ICP1"
_HEADER_LIMIT = 256
_KIND = re.compile(r"^[a-z]{1,16}$")


class BadFrame(ValueError):
    """Bytes that are not a frame where one must begin."""


Frame = collections.namedtuple("Frame", "kind meta body")
"""kind, META decoded, BODY as bytes."""


def frame(kind: str, meta: "Any", body: bytes = b"") -> bytes:
    """``ICP1 KIND META BODY CRC`` LF, then META (JSON) and BODY: the lengths in bytes, the crc32 of both in 8 hex."""
    if not _KIND.match(kind):
        raise BadFrame(f"{kind!r} is not a kind")
    text = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode("ascii")
    crc = zlib.crc32(body, zlib.crc32(text)) & 0xFFFFFFFF
    return b"".join([b"ICP1 %s %d %d %08x\n" % (kind.encode("ascii"), len(text), len(body), crc), text, body])


def _header(head: bytes) -> "tuple[str, int, int, int]":
    fields = head.split(b" ")
    try:
        magic, kind, meta, body, crc = fields
        text = kind.decode("ascii")
        if magic != MAGIC or not _KIND.match(text) or not meta.isdigit() or not body.isdigit() or len(crc) != 8:
            raise ValueError
        return text, int(meta), int(body), int(crc, 16)
    except ValueError:
        raise BadFrame(f"no frame begins with {head[:60]!r}") from None


class FrameParser:
    """Turns a stream, fed as it comes, into frames; at the first wrong byte it stops for good, and what was whole
    before counts.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.broken: str | None = None
        """What was wrong, once something was."""

    def feed(self, data: bytes) -> "list[Frame]":
        """The frames that these bytes complete."""
        self._data += data
        frames: list[Frame] = []
        at = 0
        while self.broken is None:
            end = self._data.find(b"\n", at, at + _HEADER_LIMIT)
            if end < 0:
                if len(self._data) - at >= _HEADER_LIMIT:
                    self.broken = f"no header within {_HEADER_LIMIT} bytes"
                break
            try:
                kind, meta, body, crc = _header(bytes(self._data[at:end]))
                begin = end + 1
                if len(self._data) < begin + meta + body:
                    break
                middle, stop = begin + meta, begin + meta + body
                with memoryview(self._data) as view, view[begin:stop] as both:
                    if zlib.crc32(both) & 0xFFFFFFFF != crc:
                        raise BadFrame(f"wrong checksum of a {kind} frame")
                value = json.loads(bytes(self._data[begin:middle]).decode("utf-8"))
                frames.append(Frame(kind, value, bytes(self._data[middle:stop])))
                at = stop
            except ValueError as error:
                self.broken = str(error)
        del self._data[:at]
        return frames

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not yet whole."""
        return len(self._data)


def read_until_end(stream: "BinaryIO") -> "tuple[list[Frame], bytes]":
    """The frames of a stream up to its ``end`` (or to where it breaks off), and the bytes that were read."""
    parser = FrameParser()
    frames: list[Frame] = []
    raw = []
    while parser.broken is None and not (frames and frames[-1].kind == "end"):
        data = stream.read1(1 << 16) if hasattr(stream, "read1") else stream.read(1 << 16)
        if not data:
            break
        raw.append(data)
        frames += parser.feed(data)
    return frames, b"".join(raw)


def conversations(stream: "BinaryIO", n: int) -> "list[bytes]":
    """``n`` conversations that follow each other on one stream, each up to its ``end``; the last may be broken off, those
    behind it are empty.
    """
    parser = FrameParser()
    raw, ends = b"", 0
    while parser.broken is None and ends < n:
        data = stream.read1(1 << 16) if hasattr(stream, "read1") else stream.read(1 << 16)
        if not data:
            break
        raw += data
        ends += sum(1 for one in parser.feed(data) if one.kind == "end")
    found, begin, at = [], 0, 0
    for _ in range(ends):
        while True:
            is_end = raw.startswith(b"ICP1 end ", at)
            at += first_frame_size(raw[at:])
            if is_end:
                break
        found.append(raw[begin:at])
        begin = at
    found.append(raw[begin:])
    return (found + [b""] * n)[:n]


def first_frame_size(raw: bytes) -> int:
    """Bytes of the whole frame with which this begins; raises BadFrame."""
    head = raw.split(b"\n", 1)[0]
    _, meta, body, _ = _header(head)
    return len(head) + 1 + meta + body
