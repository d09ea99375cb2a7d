"""Completion of names of datasets and sites in the shell (hides that a broken ledger must not print anything there)."""

from __future__ import annotations

__all__ = ["dataset_names", "site_names"]


def _names(query: str, incomplete: str) -> list[str]:
    import sqlite3
    from contextlib import closing

    from icp.commands.arguments import ledger_path
    from icp.errors import IcpError

    try:
        path = ledger_path()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as db:
            return [row[0] for row in db.execute(query).fetchall() if row[0].startswith(incomplete)]
    except (sqlite3.Error, OSError, IcpError):
        return []


def dataset_names(incomplete: str) -> list[str]:
    """Datasets that are not deleted, the newest first."""
    return _names("SELECT name FROM dataset WHERE deleted IS NULL ORDER BY id DESC LIMIT 500", incomplete)


def site_names(incomplete: str) -> list[str]:
    """Sites that are configured, and those that the ledger has met and that were not removed."""
    from icp import config
    from icp.errors import IcpError

    try:
        configured = [path.split(".")[1] for path in config.values(config.places()) if path.startswith("site.")]
    except IcpError:
        configured = []
    met = _names("SELECT name FROM site WHERE gone IS NULL ORDER BY name", incomplete)
    return list(dict.fromkeys([*(one for one in configured if one.startswith(incomplete)), *met]))
