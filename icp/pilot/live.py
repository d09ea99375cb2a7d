"""What a pilot with a bag says while its job runs, as a short text in the job's own ad (hides HTCondor's chirp, and that text).

Facts come whole, and count, only when the job has ended. Until then a few of them go ahead, for people to see: numbers and checksums
of lines of the agent's journal, without passkeys, as everybody may read the ads of a pool. The starter takes the text (``set_job_attr_delayed``)
and sends it on with what it tells of the job anyway, so that nothing waits for a connection, and nothing here can end the job.
"""

import collections
import os
import re
import threading

from . import journal, spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["ATTRIBUTE", "Said", "Teller", "Told", "compose", "parse"]

ATTRIBUTE = "ChirpIcp"
"""Pools let jobs set attributes with names that begin with ``Chirp``."""
WORDS = ("claimed", "staging", "running", "storing", "ended")
_ROOM = 900
"""Characters of the text: a line of chirp's has at most 1023, and an expression 993."""
_LOOK, _AGAIN, _TIRES = 5.0, 60.0, 5
"""Seconds between two looks into the journal, and after a refusal; so many in a row are an answer."""
_PATIENCE = 10.0
"""Seconds that the starter, on the same machine, has to answer."""

Said = collections.namedtuple("Said", "n crc word at about")
"""One fact: its number, its line's checksum, its word, when (by the worker's clock), and the card or attempt that it is about."""
Told = collections.namedtuple("Told", "agent host said")
"""All of a text; ``said`` by rising numbers."""

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SAID = re.compile(r"([0-9]{1,9})\.([0-9a-f]{8})\.([a-z]{1,8})\.([0-9]{1,11})\.([A-Za-z0-9_-]{1,64})\Z")


def compose(agent: str, host: str, facts: "Iterable[dict[str, Any]]") -> str:
    """The text: of each card and attempt the newest fact, as many as there is room for, the newest first to get some."""
    newest = {}
    for fact in facts:
        about = fact.get("card") if fact.get("f") == "claimed" else fact.get("a")
        if fact.get("f") in WORDS and isinstance(about, str):
            newest[about] = fact
    head = f"1:{agent}:{host if _PLAIN.match(host) else '-'}"
    parts: list[str] = []
    room = _ROOM - len(head)
    # that the card was taken is worth more than any one attempt
    order = sorted(newest.items(), key=lambda one: (one[1]["f"] != "claimed", -one[1]["n"]))
    for about, fact in order:
        part = f"{fact['n']}.{spool.line(fact)[:8].decode('ascii')}.{fact['f']}.{int(fact.get('t') or 0)}.{about}"
        if len(part) + 1 > room:
            break
        room -= len(part) + 1
        parts.append(part)
    return ":".join([head, *parts])


def parse(text: "Any") -> "Told | None":
    """What a text says; None for what is none. It may be cut anywhere: what is whole counts."""
    parts = text.split(":") if isinstance(text, str) else []
    try:
        if len(parts) < 3 or parts[0] != "1":
            return None
        agent = spool.check_agent(parts[1])
    except spool.BadName:
        return None
    said = []
    for part in parts[3:]:
        match = _SAID.match(part)
        if match and match.group(3) in WORDS:
            said.append(Said(int(match.group(1)), match.group(2), match.group(3), int(match.group(4)), match.group(5)))
    said.sort()
    return Told(agent, parts[2] if _PLAIN.match(parts[2]) and parts[2] != "-" else None, said)


# --- on the worker


class Teller:
    """A thread that follows the journal of the agent in a spool, and hands the text to the starter whenever it changes."""

    def __init__(self, where: spool.Spool) -> None:
        self._where = where
        self._leave = threading.Event()
        self._positions: dict[str, spool.Position] = {}
        self._facts: dict[str, dict[str, dict[str, Any]]] = {}
        self._hosts: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="live")
        self._thread.daemon = True

    def start(self) -> None:
        """Begin, where there is somebody to tell."""
        if config() is not None:
            self._thread.start()

    def stop(self) -> None:
        """No more: the job's end tells all."""
        self._leave.set()

    def _run(self) -> None:
        told, failed = "", 0
        while failed < _TIRES and not self._leave.wait(_AGAIN if failed else _LOOK):
            try:
                text = self.text()
                if text in ("", told):
                    continue
                set_attribute(ATTRIBUTE, text)
                told, failed = text, 0
            except (OSError, ValueError):
                failed += 1

    def text(self) -> str:
        """What there is to say now; empty where no agent has begun."""
        text = ""
        for agent in sorted(os.listdir(self._where.agents)):
            folder = self._where.agent(agent)
            position = self._positions.get(agent, spool.BEGIN)
            chunks = []
            for segment, _ in journal.segments(folder, "journal"):
                if segment < position.segment:
                    continue
                begin = position.offset if segment == position.segment else 0
                with open(f"{folder}/journal.{segment}", "rb") as stream:
                    stream.seek(begin)
                    chunks.append((segment, begin, stream.read()))
            facts, self._positions[agent] = spool.take(position, chunks)
            known = self._facts.setdefault(agent, {})
            for fact in facts:
                if fact.get("f") == "started":
                    self._hosts[agent] = str(fact.get("host"))
                elif fact.get("f") in WORDS:
                    known[str(fact.get("card") or fact.get("a"))] = fact
            if known:
                text = compose(agent, self._hosts.get(agent, "-"), known.values())
        return text


# --- chirp


def config() -> "tuple[str, int, str] | None":
    """(host, port, cookie) of the starter, which writes them down for its job; None where it does not."""
    places = [os.environ.get("_CONDOR_CHIRP_CONFIG", "")]
    if os.environ.get("_CONDOR_SCRATCH_DIR"):
        places += [os.environ["_CONDOR_SCRATCH_DIR"] + name for name in ("/.chirp.config", "/chirp.config")]
    for path in filter(None, places):
        try:
            with open(path, encoding="ascii") as stream:
                host, port, cookie = stream.read().split()[:3]
            return host, int(port), cookie
        except (OSError, ValueError):
            continue
    return None


def set_attribute(name: str, text: str) -> None:
    """An attribute of this job's ad, to be sent on with the next that is told of it; OSError or ValueError where that is refused."""
    import socket

    place = config()
    if place is None:
        raise OSError("no starter to talk to")
    host, port, cookie = place
    with socket.create_connection((host, port), _PATIENCE) as link:
        for command in (f"cookie {cookie}", f'set_job_attr_delayed {name} "{text}"'):
            link.sendall(command.encode("ascii") + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = link.recv(100)
                if not data or len(answer) > 1000:
                    raise OSError("the starter broke off")
                answer += data
            if int(answer) < 0:
                raise OSError(f"the starter refuses: {int(answer)}")
