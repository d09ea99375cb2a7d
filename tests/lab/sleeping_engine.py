"""The engine on a laptop that sleeps, as a process of its own: ``sleeping_engine.py FILE``, which says by how many seconds all clocks have moved on."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from icp import config
from icp.backends.base import Unknown
from icp.backends.spool_client import Hello, Query, SpoolClient, Talk
from icp.config import Site
from icp.engine import Engine
from icp.engine.loop import engine_lock
from icp.ledger.db import open_ledger
from icp.model.exchange import Answer


class Clock:
    """Time as the laptop has it; login nodes have the same, seen from here."""

    def __init__(self, moved: Path) -> None:
        self.moved = moved

    def ahead(self) -> float:
        return float(self.moved.read_text()) if self.moved.exists() else 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead()


def main(moved: Path) -> None:
    loaded, clock = config.load(), Clock(moved)
    ledger = open_ledger(loaded.ledger)

    def talk(site: Site, hello: Hello, query: Query) -> Answer | Unknown:
        (answer,) = SpoolClient(engine.lines.transport(site), site.env).exchange([Talk(engine.sites[site.name].spool, hello, query)])
        if isinstance(answer, Answer) and answer.owner is not None:
            answer.owner = {**answer.owner, "now": answer.owner["now"] + clock.ahead()}
        return answer

    with engine_lock(loaded):
        ledger.take_lease(time.time())
        engine = Engine(ledger, loaded, clock=clock, exchanger=talk)
        while True:
            engine.tick()
            time.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
