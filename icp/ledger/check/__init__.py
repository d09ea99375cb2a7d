"""Whether a ledger is true to itself: every invariant that the rest relies on, recounted from the rows (hides the recounts).

The one reader that looks at the whole ledger: it costs as much as there is, in chunks that bound its memory.
"""

from __future__ import annotations

from icp.ledger.check.chains import chains
from icp.ledger.check.chunks import EACH, limited
from icp.ledger.check.counts import coming, counts, finals, jobs
from icp.ledger.check.home import home_files, missing, relayed
from icp.ledger.check.rows import tables
from icp.ledger.check.sums import statistics, work
from icp.ledger.db import Ledger

__all__ = ["EACH", "check"]


def check(ledger: Ledger, *, deep: bool = False) -> list[str]:
    """What is wrong with the ledger, a sentence each; empty when nothing is. ``deep`` also reads every file at home."""
    found: list[str] = []
    with ledger.read() as db:
        found += [f"SQLite: {row[0]}" for row in db.execute("PRAGMA integrity_check(20)").fetchall() if row[0] != "ok"]
        for part in (tables, counts, jobs, finals, coming, statistics, work, chains):
            found += part(db)
        files = [*home_files(db), *relayed(db)]
    # the files are looked at outside of the transaction: it may take long
    found += limited(missing(files, deep=deep))
    return found
