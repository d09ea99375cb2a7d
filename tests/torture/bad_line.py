"""The engine over a bad line, as a process of its own: some of its conversations are lost, doubled, cut or late, by chance.

``bad_line.py SEED COUNTS``: what was done to conversations is appended to the file COUNTS, a word a line. Ticks until it is killed,
or the datasets are complete and nothing of them is left at the site.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from icp import config
from icp.backends.base import Outcome, Result, Unknown
from icp.backends.spool_client import Hello, Query, SpoolClient, Talk
from icp.backends.transport import LocalTransport
from icp.config import Site
from icp.engine import Engine
from icp.engine.loop import engine_lock
from icp.ledger.db import Ledger, open_ledger
from icp.model.exchange import Answer
from icp.states import Dataset

EVERY = 12
"""One conversation of so many suffers from each of these."""


class BadLine:
    """A conversation with a site, to which something may happen."""

    def __init__(self, engine: Engine, seed: int, counts: Path) -> None:
        self.engine, self.random, self.counts = engine, random.Random(seed), counts
        self.last: tuple[Hello, Query] | None = None

    def happened(self, word: str) -> None:
        with self.counts.open("a") as stream:
            stream.write(word + "\n")

    def over(self, site: Site, transport: LocalTransport, hello: Hello, query: Query) -> Answer | Unknown:
        return SpoolClient(transport).exchange([Talk(self.engine.sites[site.name].spool, hello, query)])[0]

    def __call__(self, site: Site, hello: Hello, query: Query) -> Answer | Unknown:
        fate = self.random.randrange(EVERY)
        if fate == 0:
            self.happened("answer dropped")
            self.over(site, LocalTransport(site.env), hello, query)
            return Unknown("connection reset")
        if fate == 1:
            self.happened("answer cut")
            return self.over(site, Cut(self.random.random()), hello, query)
        if fate == 2:
            self.happened("orders sent twice")
            self.over(site, LocalTransport(site.env), hello, query)
        if fate == 3 and self.last is not None:
            self.happened("old orders came late")
            self.over(site, LocalTransport(site.env), *self.last)
        self.last = (hello, query)
        return self.over(site, LocalTransport(site.env), hello, query)


class Cut(LocalTransport):
    """A connection that breaks off within the answer."""

    def __init__(self, where: float) -> None:
        super().__init__()
        self.where = where

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Outcome:
        done = super().run(argv, stdin, timeout)
        return Unknown("connection reset", done.out[: int(len(done.out) * self.where)]) if isinstance(done, Result) else done


def complete(ledger: Ledger) -> bool:
    return not ledger.db.execute("SELECT 1 FROM dataset WHERE state <> ?", (int(Dataset.COMPLETE),)).fetchone()


def main(seed: int, counts: Path) -> int:
    loaded = config.load()
    ledger = open_ledger(loaded.ledger)
    with engine_lock(loaded):
        ledger.take_lease(time.time())
        engine = Engine(ledger, loaded)
        engine.lines.exchanger = BadLine(engine, seed, counts)
        while True:
            ticked = engine.tick()
            for why in ticked.refused.values():
                sys.stderr.write(f"refused: {why}\n")
                return 9
            if not ticked.working and complete(ledger):
                return 0
            if not ticked.more:
                time.sleep(loaded.pause_local)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
