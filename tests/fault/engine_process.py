"""The engine as a process of its own, for tests that kill it: ticks until all datasets are at rest and nothing of ours is anywhere."""

from __future__ import annotations

import sys
import time

from icp import config
from icp.engine.loop import engine_lock, run
from icp.engine.tick import Ticked
from icp.errors import IcpError
from icp.ledger.db import Ledger, open_ledger
from icp.states import Dataset


def done(ledger: Ledger) -> bool:
    """Everything is complete, and the last tick saw nothing of ours at a site."""
    return not seen.working and not ledger.db.execute("SELECT 1 FROM dataset WHERE state <> ?", (int(Dataset.COMPLETE),)).fetchone()


class _Seen:
    working = True

    def __call__(self, ticked: Ticked) -> None:
        self.working = ticked.working
        for why in (*ticked.troubles.values(), *ticked.refused.values()):
            sys.stderr.write(f"{time.time():.3f} {why}\n")
        if ticked.refused:
            raise SystemExit(9)


seen = _Seen()


def main() -> int:
    try:
        loaded = config.load()
        ledger = open_ledger(loaded.ledger)
        with engine_lock(loaded):
            run(ledger, loaded, until=done, seen=seen)
    except IcpError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
