"""What one site is told in one exchange, gathered before it is sent (hides the order of its frames)."""

from __future__ import annotations

from dataclasses import dataclass, field

from icp.backends.spool_client import order
from icp.model.need import Need

__all__ = ["OUTBOX_BYTES", "Direct", "Orders"]

OUTBOX_BYTES = 6_000_000
"""Cards beyond this wait for the next tick."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A card that gets a batch job of its own."""

    card: int
    name: str
    """Its file's name in the inbox."""
    need: Need
    seconds: int
    """What the batch job asks for: long enough for the last attempt to reach its limit."""


@dataclass
class Orders:
    """Frames for one site, in the order in which the site applies them."""

    needs: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    cards: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    drops: set[bytes] = field(default_factory=set)
    """What goes from the site's cache: nothing that the same orders bring or use, so that applying them twice is applying them once."""
    asked: set[int] = field(default_factory=set)
    """Sites from which something shall come home, to be sent on to this one."""
    direct: list[Direct] = field(default_factory=list)
    """Cards among these that need a batch job each."""
    size: int = 0

    def frames(self) -> list[bytes]:
        return [*self.needs.values(), *self.blobs.values(), *self.cards, *self.others, *(order("drop", {"sha256": one.hex()}) for one in sorted(self.drops))]
