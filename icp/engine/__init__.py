"""One tick: plan, act, exchange, ingest. The only place where parts meet."""

from icp.engine.loop import run, run_once
from icp.engine.tick import Engine, Ticked

__all__ = ["Engine", "Ticked", "run", "run_once"]
