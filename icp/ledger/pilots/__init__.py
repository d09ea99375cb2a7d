"""Pilots in the ledger: their rows, what the batch system says of them, their ends."""

from icp.ledger.pilots.orders import Ending, drain_of, endings, not_ended, over, refuse, withdraw
from icp.ledger.pilots.rows import (
    YOUNG,
    ended_young,
    left,
    listed,
    make_pilot,
    pilot_event,
    pilots_of,
    receipt,
    waiting,
)
from icp.ledger.pilots.settling import HOLLOW, STRANGER, settle_pilots

__all__ = [
    "HOLLOW", "STRANGER", "YOUNG", "Ending", "drain_of", "ended_young", "endings", "left", "listed", "make_pilot", "not_ended", "over", "pilot_event",
    "pilots_of", "receipt", "refuse", "settle_pilots", "waiting", "withdraw",
]  # fmt: skip
