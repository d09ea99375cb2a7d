"""Bytes and their checksums (hides blocks)."""

import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BLOCK", "copy", "digest_of"]

BLOCK = 1 << 20


def digest_of(
    path: "str | os.PathLike[str]", kind: str = "sha256", read: "Callable[[int], Any]" = lambda n: None
) -> str:
    """The checksum of a file in hex; ``read`` is told the bytes of each block. OSError."""
    digest = hashlib.new(kind)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
            read(len(block))
    return digest.hexdigest()


def copy(source: str, target: str) -> str:
    """Copies bytes into a file that does not exist, and returns their sha256 in hex; an executable stays one."""
    digest = hashlib.sha256()
    with open(source, "rb") as stream, open(target, "xb") as out:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
            out.write(block)
        if os.fstat(stream.fileno()).st_mode & 0o100:
            os.fchmod(out.fileno(), 0o755)
    return digest.hexdigest()
