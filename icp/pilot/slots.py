"""What is free on a node, and which cards fit into it (hides packing, lending, and whom to stop when the node
runs out).
"""

from . import needs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Room", "Share", "worst"]

FIRST = 64
"""An agent picks at random among this many fitting names."""
PATIENCE = 300.0
"""Seconds that a fitting card may be passed over for want of free slots, before they are held back for it."""


class Share:
    """What one card has while it runs: promised amounts (bytes), and the GPUs that are its own."""

    def __init__(self, cpus: float, memory: int, disk: int, gpus: "list[str]") -> None:
        self.cpus, self.memory, self.disk, self.gpus = cpus, memory, disk, gpus
        self.used_memory = self.used_disk = 0
        """The last samples, bytes."""


class Room:
    """A node's cpus, memory and disk (bytes), GPUs, and the time at which it ends (Unix time, or None)."""

    def __init__(
        self, cpus: int, memory: int, disk: int, gpus: "list[str]", end: "float | None", attrs: "dict[str, Any]"
    ) -> None:
        self.cpus, self.memory, self.disk, self.end, self.attrs = cpus, memory, disk, end, attrs
        self.gpus = list(gpus)
        self._free_gpus = list(gpus)
        self.shares: list[Share] = []
        self._passed: dict[str, float] = {}

    def suits(self, need: "dict[str, Any]", now: float) -> bool:
        """Whether the empty node could run it, and to its end."""
        return (
            need["cpus"] <= self.cpus
            and need["memory"] <= self.memory
            and need["disk"] <= self.disk
            and need["gpus"] <= len(self.gpus)
            and (self.end is None or now + need["time"] <= self.end)
            and needs.compare(need["any"], self.attrs)
        )

    def has_free(self, need: "dict[str, Any]") -> bool:
        """Whether there is room now; memory and disk that were lent to a task which grew are not."""
        return bool(
            need["cpus"] <= self.cpus - sum(share.cpus for share in self.shares)
            and need["gpus"] <= len(self._free_gpus)
            and need["memory"] <= self.memory - sum(max(share.memory, share.used_memory) for share in self.shares)
            and need["disk"] <= self.disk - sum(max(share.disk, share.used_disk) for share in self.shares)
        )

    @property
    def full(self) -> bool:
        """Whether not even the smallest card could start."""
        return sum(share.cpus for share in self.shares) >= self.cpus

    def take(self, need: "dict[str, Any]") -> Share:
        """Reserves; call only where ``has_free``."""
        count = need["gpus"]
        share = Share(need["cpus"], need["memory"], need["disk"], self._free_gpus[:count])
        del self._free_gpus[:count]
        self.shares.append(share)
        return share

    def give_back(self, share: Share) -> None:
        self.shares.remove(share)
        self._free_gpus += share.gpus

    def choose(
        self,
        names: "Iterable[str]",
        need_of: "Callable[[str], dict[str, Any] | None]",
        pick: "Callable[[int], int]",
        now: float,
    ) -> "str | None":
        """A card that fits, at random (``pick(n)`` draws from range(n)) among the first 64 that do; None if none does.

        A card that would fit the empty node but was passed over for five minutes is waited for: nothing else is taken.
        """
        verdicts: dict[str, tuple[bool, bool]] = {}
        fitting = []
        for name in names:
            key = name[:-17].partition("-")[2] or name
            if key not in verdicts:
                need = need_of(name)
                suits = need is not None and self.suits(need, now)
                verdicts[key] = (suits, suits and self.has_free(need or {}))
            suits, free = verdicts[key]
            if free:
                fitting.append(name)
                if len(fitting) == FIRST:
                    break
            elif suits and not fitting:
                if now - self._passed.setdefault(name, now) > PATIENCE:
                    return None
        if not fitting:
            return None
        chosen = fitting[pick(len(fitting))]
        self._passed.pop(chosen, None)
        if len(self._passed) > 1000:
            self._passed.clear()
        return chosen


def worst(promised_used: "list[tuple[int, int]]", limit: int) -> "int | None":
    """Who must stop: the index of the largest user beyond its promise, or None while all goes well.

    What others were promised is kept for them, what nobody was promised is lent: so the node has run out when the sum
    of max(promised, used) is beyond ``limit``.
    """
    if sum(max(promised, used) for promised, used in promised_used) <= limit:
        return None
    over = [used - promised for promised, used in promised_used]
    index = max(range(len(over)), key=lambda one: over[one])
    return index if over[index] > 0 else None
