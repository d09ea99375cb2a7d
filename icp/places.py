"""Where the files of this user are: XDG or ICP_HOME (hides the environment). Kept apart from the configuration so that looking is quick."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icp.errors import Refused

__all__ = ["Places", "check_host", "note_host", "places"]


@dataclass(frozen=True)
class Places:
    """Files and directories of this user; nothing here exists before it is needed."""

    config: Path
    data: Path
    state: Path
    cache: Path

    @property
    def lock(self) -> Path:
        return self.state / "engine.lock"

    @property
    def ledger(self) -> Path:
        """Where the ledger is unless the configuration says otherwise."""
        return self.data / "ledger.sqlite"


def places(environ: Mapping[str, str] | None = None) -> Places:
    """All below ICP_HOME if that is set, otherwise where XDG says."""
    env = os.environ if environ is None else environ
    home = env.get("ICP_HOME")
    if home:
        root = Path(home).expanduser().absolute()
        return Places(root / "config.toml", root, root, root / "cache")

    def xdg(name: str, default: str) -> Path:
        value = env.get(name, "")
        base = Path(value) if value.startswith("/") else Path(env.get("HOME") or "~").expanduser() / default
        return base / "icp"

    return Places(
        xdg("XDG_CONFIG_HOME", ".config") / "config.toml",
        xdg("XDG_DATA_HOME", ".local/share"),
        xdg("XDG_STATE_HOME", ".local/state"),
        xdg("XDG_CACHE_HOME", ".cache"),
    )


def note_host(where: Places, ledger: Path) -> None:
    """Remember, beside the configuration, which host's disk holds a ledger that was put elsewhere."""
    import json
    import socket

    where.config.parent.mkdir(parents=True, exist_ok=True)
    pointer = where.config.with_name("ledger.host")
    part = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    part.write_text(json.dumps({"ledger": str(ledger), "host": socket.gethostname()}))
    part.replace(pointer)


def check_host(where: Places, ledger: Path) -> None:
    """Refuse on a host that cannot have the ledger: a home may be shared, a local disk is not."""
    pointer = where.config.with_name("ledger.host")
    if not pointer.exists():
        return
    import json
    import socket

    try:
        said = json.loads(pointer.read_text())
    except (OSError, ValueError):
        return
    if said.get("ledger") == str(ledger) and said.get("host") != socket.gethostname():
        raise Refused(f"the ledger {ledger} is on a disk of host {said.get('host')}, and this is {socket.gethostname()}", f"run icp on {said.get('host')}")
