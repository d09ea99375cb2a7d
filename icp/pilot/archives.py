"""Archives of software, unpacked into a folder and nowhere else (hides tar, and what a wicked one would try)."""

import os

from . import spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["unpack"]

_BLOCK = 1 << 20


def unpack(path: str, target: str, still: "Callable[[], Any]" = lambda: None) -> None:
    """Unpacks a tar (gz, bz2, xz) below ``target``, and nothing beside it; OSError or ValueError says what is wrong.
    ``still()`` is called again and again meanwhile.
    """
    import tarfile

    root = os.path.realpath(target)
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name
                while name.startswith("./"):
                    name = name[2:]
                if name in ("", "."):
                    continue
                spool.check_name(name.rstrip("/"))
                parent = os.path.realpath(os.path.dirname(f"{root}/{name}"))
                if parent != root and not parent.startswith(root + "/"):
                    raise ValueError(f"{name} would lie beside it")
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    raise ValueError(f"{name} is no file, directory or link")
                _extract(archive, member, root, f"{root}/{name}", still)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None


def _extract(archive: "Any", member: "Any", root: str, target: str, still: "Callable[[], Any]") -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if member.isdir():
        os.makedirs(target, exist_ok=True)
        os.chmod(target, 0o700 | member.mode & 0o777)
    elif member.issym():
        os.symlink(member.linkname, target)
    elif member.islnk():
        source = os.path.realpath(f"{root}/{member.linkname}")
        if not source.startswith(root + "/"):
            raise ValueError(f"{member.name} links to what lies beside it")
        os.link(source, target)
    else:
        content = archive.extractfile(member)
        with open(target, "xb") as out:
            for block in iter(lambda: content.read(_BLOCK), b""):
                out.write(block)
                still()
        os.chmod(target, 0o400 | member.mode & 0o777)
