"""Where the files of this user are: XDG or ICP_HOME (hides the environment). Kept apart from the configuration so that looking is quick."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Places", "places"]


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
