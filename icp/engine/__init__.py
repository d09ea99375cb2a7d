"""One tick: plan, act, exchange, ingest. The only place where parts meet."""

from icp.engine.adoption import Adopted, adopt
from icp.engine.loop import run, run_once
from icp.engine.tick import Engine, Ticked

__all__ = ["Adopted", "Engine", "Ticked", "adopt", "run", "run_once"]
