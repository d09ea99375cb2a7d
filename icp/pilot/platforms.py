"""What kind of machine this is, and which of several platforms suits it best (hides C libraries and how they tell their version)."""

import glob
import os
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["best", "here"]

_PLATFORM = re.compile(r"(linux)-([a-z0-9_]+?)(?:-(glibc|musl)([0-9.]*))?\Z")
_known: "list[str]" = []


def here() -> str:
    """``linux-x86_64-glibc2.17``, ``linux-aarch64-musl1.2``: system, machine, and the C library of the node."""
    if not _known:
        system = os.uname()
        _known.append(f"{system.sysname.lower()}-{system.machine}{_libc()}")
    return _known[0]


def _libc() -> str:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
        if name:
            return "-" + name.replace(" ", "")
    except (ValueError, OSError):
        pass
    # A Python that is linked with musl, or with none: the node's own loader tells.
    for pattern, word in (("/lib*/ld-linux-*.so.?", "glibc"), ("/lib/ld-musl-*.so.1", "musl")):
        for loader in sorted(glob.glob(pattern)):
            try:
                done = subprocess.run([loader, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, check=False)
            except (OSError, subprocess.SubprocessError):
                continue
            found = re.search(rb"(?:version|Version|GLIBC) ?([0-9]+\.[0-9]+)", done.stdout)
            return f"-{word}{found.group(1).decode() if found else ''}"
    return ""


def _version(text: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in text.split(".") if part)


def _rank(wanted: str, mine: str) -> "tuple[int, tuple[int, ...]] | None":
    """How close ``wanted`` comes to this machine, larger is closer; None: it does not run here."""
    if wanted == "any":
        return 0, ()
    own, other = _PLATFORM.match(mine), _PLATFORM.match(wanted)
    if own is None or other is None or own.groups()[:2] != other.groups()[:2]:
        return None
    if other.group(3) is None:
        return 1, ()
    if other.group(3) != own.group(3) or _version(other.group(4)) > _version(own.group(4) or "0"):
        return None
    return 2, _version(other.group(4))


def best(offered: "Iterable[str]", mine: str) -> "str | None":
    """Of these platforms the one that needs the most of what this machine has; None if it satisfies none."""
    ranked = [(rank, one) for rank, one in ((_rank(one, mine), one) for one in offered) if rank is not None]
    return max(ranked)[1] if ranked else None
