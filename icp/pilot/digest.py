"""Bytes and their checksums (hides blocks)."""

import hashlib
import os

__all__ = ["BLOCK", "copy", "digest_of"]

BLOCK = 1 << 20


def digest_of(path: str) -> str:
    """The sha256 of a file in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
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
