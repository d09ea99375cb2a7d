"""The pilot as one file, named by its content: made from ``icp.pilot`` alone, the same bytes every time (hides zip)."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import io
import marshal
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Program", "build", "cached"]

_MAIN = b"import sys\n\nfrom icp.pilot.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Program:
    """A zipapp: its bytes, their sha256 in hex, and the name it has in a spool."""

    data: bytes
    sha256: str

    @property
    def name(self) -> str:
        return f"pilot-{self.sha256[:16]}.pyz"


def build() -> Program:
    """The zipapp of the installed ``icp.pilot`` with an empty ``icp/__init__.py``; runs under Python 3.6 and later."""
    parts = {"__main__.py": _MAIN, "icp/__init__.py": b""}
    _collect(importlib.resources.files("icp.pilot"), "icp/pilot", parts)
    for name in [name for name in parts if name.startswith("icp/")]:
        parts[name + "c"] = _compiled(name, parts[name])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_STORED
            archive.writestr(entry, parts[name])
    data = target.getvalue()
    return Program(data, hashlib.sha256(data).hexdigest())


def _compiled(name: str, source: bytes) -> bytes:
    """The module as this interpreter's byte code, found by zipimport before the source; another version's passes it
    over.

    An exchange would otherwise spend more time compiling than working: nothing is cached for modules in a zip.
    """
    code = compile(source, name, "exec", dont_inherit=True)
    # Format 2 of marshal has no references: later ones depend on what else holds an object, and so on what was imported
    # before.
    # PEP 552: magic, flags 1 (by hash, not checked), hash of the source
    return (
        importlib.util.MAGIC_NUMBER
        + (1).to_bytes(4, "little")
        + importlib.util.source_hash(source)
        + marshal.dumps(code, 2)
    )


def _collect(folder: Any, prefix: str, parts: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.name.endswith(".py"):
            parts[f"{prefix}/{entry.name}"] = entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            _collect(entry, f"{prefix}/{entry.name}", parts)


def cached(folder: Path) -> tuple[Path, Program]:
    """The program, and where it lies in ``folder`` (made if needed, written once per content, mode 0600)."""
    program = build()
    path = folder / program.name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{program.name}.{os.getpid()}"
        temporary.write_bytes(program.data)
        temporary.chmod(0o600)
        temporary.replace(path)
    return path, program
