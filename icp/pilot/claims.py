"""How an agent gets its cards: the inbox listed, a fitting one picked and renamed (hides the races, and what NFS
answers).
"""

import errno
import json
import os

from . import faults, spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .agent import Agent

__all__ = ["Claims"]

_LIST_AGE = 1.0
"""Seconds for which a listing of the inbox is used, as long as cards are found in it."""


class Claims:
    """The inbox as one agent sees it, and the folder of the cards that are its own."""

    def __init__(self, agent: "Agent") -> None:
        self._agent, self._spool = agent, agent.spool
        self.folder = agent.folder + "/claimed"
        self.broken: set[str] = set()
        """Cards in it that cannot be read."""
        only = agent.start.told.get("only")
        self.only: set[str] | None = None if only is None else set(only)
        """Names of the cards that may be claimed, and were not yet; None: all."""
        self._needs: dict[str, dict[str, Any]] = {}
        self._shunned: dict[str, float] = {}
        self._names: list[str] = []
        self._listed = 0.0
        self._random = int.from_bytes(os.urandom(8), "big")

    def choose(self, now: float, ahead: bool, eager: bool) -> "str | None":
        """A card to claim: one that fits now, or, ``ahead`` of time, that will once a slot is free. ``eager``: an
        old listing will do.
        """
        if not self._names or now - self._listed > _LIST_AGE or not eager:
            try:
                self._names = sorted(os.listdir(self._spool.inbox) if self.only is None else filter(self._there, self.only))
            except OSError:
                self._names = []
            self._listed = now
        if ahead:
            for name in self._names[:64]:
                need = self._open(name, now)
                if need is not None and self._agent.room.suits(need, now):
                    return name
            return None
        return self._agent.room.choose(self._names, lambda name: self._open(name, now), self._pick, now)

    def shun(self, name: str, until: float) -> None:
        """Cards whose software is that of this one are left to other agents until then (Unix time)."""
        need = self.need(name) or {}
        if until and need.get("software"):
            self._shunned[json.dumps(need["software"])] = until

    def _open(self, name: str, now: float) -> "dict[str, Any] | None":
        """The need of a card that may be claimed here, as far as its software goes."""
        need = self.need(name)
        if need is not None and self._shunned and need.get("software"):
            return None if now < self._shunned.get(json.dumps(need["software"]), 0.0) else need
        return need

    def _there(self, name: str) -> bool:
        # Asked for by name: a listing of NFS may be a minute old.
        return os.path.exists(f"{self._spool.inbox}/{spool.check_name(name)}")

    def none_left(self) -> bool:
        """Whether all that may be claimed was, or was called back."""
        if self.only is None:
            return False
        self.only = {name for name in self.only if not os.path.exists(f"{self._spool.recalled}/{spool.card_id(name)}")}
        return not self.only

    def _pick(self, count: int) -> int:
        # Enough to keep agents from running after the same card; `random` is half a megabyte.
        self._random = (self._random * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._random >> 33) % count

    def need(self, name: str) -> "dict[str, Any] | None":
        """What a card of this name asks for; None if that cannot be read (yet)."""
        try:
            need = spool.split_card_name(name)[1]
            if need not in self._needs:
                with open(self._spool.need(need), "rb") as stream:
                    self._needs[need] = json.loads(stream.read().decode("utf-8"))
            return self._needs[need]
        except (OSError, ValueError):
            return None

    def take(self, name: str) -> "list[dict[str, Any]] | None":
        """Claims a card: its attempts, or None if another agent was faster. Notices here that this one was fenced."""
        mine = f"{self.folder}/{name}"
        try:
            self._names.remove(name)
        except ValueError:
            pass
        try:
            os.rename(f"{self._spool.inbox}/{name}", mine)
        except OSError as error:
            if error.errno != errno.ENOENT:
                return None
            try:
                if name not in os.listdir(self.folder):
                    return None
            except FileNotFoundError:
                self._agent.be_fenced()
                return None
        faults.visit("agent.renamed")
        return self.read(name)

    def read(self, name: str) -> "list[dict[str, Any]] | None":
        """Tells that the card is ours, and returns its attempts (None if it cannot be read)."""
        fact: dict[str, Any] = {"f": "claimed", "card": spool.card_id(name)}
        if self.only is not None:
            self.only.discard(name)
        specs = None
        try:
            with open(f"{self.folder}/{name}", "rb") as stream:
                specs = _read(stream.read())["attempts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            fact["err"] = f"the card cannot be read: {error}"
            self.broken.add(name)
        self._agent.tell(fact)
        return specs

    def unknown(self, known: "set[str]") -> "list[str]":
        """Cards in our folder beside the known ones: a rename that was answered with an error had succeeded."""
        try:
            return [name for name in os.listdir(self.folder) if name not in known and self.need(name) is not None]
        except FileNotFoundError:
            self._agent.be_fenced()
        except OSError:
            pass
        return []

    def remove(self, name: str) -> None:
        """The facts of its attempts are durable: the card is not needed any more."""
        try:
            os.unlink(f"{self.folder}/{name}")
        except OSError:
            pass


def _read(card: bytes) -> "dict[str, Any]":
    """A card's content; ValueError or KeyError where it is none."""
    value = json.loads(card.decode("utf-8"))
    if not isinstance(value, dict) or not isinstance(value["attempts"], list) or not value["attempts"]:
        raise ValueError("not a card")
    for one in value["attempts"]:
        spool.check_id(one["a"])
    return value
