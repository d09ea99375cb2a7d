"""The engine's end of an exchange: orders and questions out, Answers back, one session for all spools of a host (hides frames, and how the program
gets there)."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icp.backends import ship
from icp.backends.base import Result, Transport, Unknown
from icp.backends.pilot_script import PYTHONS
from icp.backends.transport import LocalTransport
from icp.model.exchange import Answer, Piece, Want
from icp.pilot.framing import ANSWER_LIMIT, FrameParser, frame
from icp.pilot.transfer import MISSING

__all__ = ["PIECE", "Hello", "Missing", "Query", "SpoolClient", "SpoolPlace", "Talk", "order", "parse_answer", "plain", "with_python"]

PIECE = 4 * 1000 * 1000
"""Bytes of one piece of an output in an exchange."""
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Hello:
    ledger: str
    epoch: int
    serial: int
    """Of the orders, or the last answered one where there are none."""
    orders: tuple[bytes, str] | None
    """(bytes, sha256) of the outbox."""
    new: bool = False
    """The spool may be made."""


@dataclass(frozen=True, slots=True)
class Query:
    streams: Mapping[str, Sequence[int]] = field(default_factory=dict)
    want: Sequence[Want] = ()
    batch: Sequence[Sequence[str]] = ()
    fenced: Sequence[str] = ()
    ended: Sequence[str] = ()
    """Pilots: the last that their batch jobs printed is wanted."""
    logs: Sequence[tuple[str, int, int]] = ()
    cards: bool = False


def order(kind: str, meta: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One order as it stands in an outbox."""
    return frame(kind, meta, body)


def request(hello: Hello, query: Query) -> bytes:
    """The bytes that go to the site."""
    promised = None if hello.orders is None else {"bytes": len(hello.orders[0]), "sha256": hello.orders[1]}
    said = {"ledger": hello.ledger, "epoch": hello.epoch, "serial": hello.serial, "orders": promised, "new": hello.new}
    asked = {
        "streams": {name: list(position) for name, position in query.streams.items()},
        "want": [[one.attempt, one.index, one.name, one.offset, one.length] for one in query.want],
        "batch": [list(argv) for argv in query.batch],
        "fenced": list(query.fenced),
        "ended": list(query.ended),
        "logs": [list(one) for one in query.logs],
        "cards": query.cards,
    }
    return b"".join([frame("hello", said), b"" if hello.orders is None else hello.orders[0], frame("query", asked), frame("end", {})])


def parse_answer(data: bytes) -> Answer:
    """The whole frames of an answer; a stream that broke off gives what came before."""
    answer = Answer()
    for one in FrameParser().feed(data):
        meta: Any = one.meta
        if one.kind == "owner":
            answer.owner = meta
        elif one.kind == "refused":
            answer.refused = str(meta.get("why"))
        elif one.kind == "applied":
            answer.applied = meta
        elif one.kind == "agents":
            answer.agents = meta
        elif one.kind == "journal":
            answer.journals.append((meta["agent"], meta["stream"], meta["segment"], meta["offset"], one.body))
        elif one.kind == "file":
            answer.pieces.append(Piece(meta["attempt"], meta["index"], meta["name"], meta["offset"], meta["size"], one.body))
        elif one.kind == "missing":
            answer.missing.append((meta["attempt"], meta["index"], meta["name"], meta["why"]))
        elif one.kind == "batch":
            answer.batch.append((meta["rc"], one.body.decode("utf-8", "replace"), str(meta.get("err") or "")))
        elif one.kind == "log":
            answer.logs.append((meta["name"], meta["offset"], meta["size"] or 0, one.body))
        elif one.kind == "tail":
            answer.tails[str(meta["pilot"])] = one.body.decode("utf-8", "replace")
        elif one.kind == "card":
            answer.cards.append((f"{meta['place']}/{meta['name']}", one.body))
        elif one.kind == "bag":
            answer.bags.append((meta, one.body))
        elif one.kind == "stored":
            answer.stored += meta
        elif one.kind == "health":
            answer.health = meta
        elif one.kind == "end":
            answer.more, answer.whole = bool(meta.get("more")), True
    return answer


NO_PROGRAM, NO_PYTHON = 97, 98
_FRAMES_BEGIN = b"ICP1 "


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where the spool of a site is, the pilot's program beside it, and what runs that (None: a Python is looked for there)."""

    root: Path
    program: Path
    python: str | None = sys.executable

    @classmethod
    def place(cls, base: Path, ledger: str) -> Path:
        """The spool of a ledger below a site's root."""
        return base / ledger

    @classmethod
    def install(cls, base: Path, ledger: str) -> SpoolPlace:
        """On this machine: the program is put where pilots find it as long as they live, beside the spool, by content hash."""
        path, _ = ship.cached(base / "programs")
        return cls(cls.place(base, ledger), path, sys.executable or shutil.which("python3") or "python3")

    @classmethod
    def away(cls, base: Path, ledger: str, python: str | None) -> SpoolPlace:
        """On another host: the program goes there when an exchange misses it."""
        return cls(cls.place(base, ledger), base / "programs" / ship.build().name, python)


@dataclass(frozen=True, slots=True)
class Talk:
    """What goes to one spool."""

    place: SpoolPlace
    hello: Hello
    query: Query


@dataclass(frozen=True, slots=True)
class Missing:
    """The site has not got what was asked for, or not so many bytes of it."""

    why: str


class SpoolClient:
    """Talks to spools over a transport; ``env``: variables of our commands there, for hosts other than this one."""

    def __init__(self, transport: Transport, env: Mapping[str, str] | None = None) -> None:
        self.transport, self.env = transport, dict(env or {})

    def exchange(self, talks: Sequence[Talk], timeout: float = TIMEOUT) -> list[Answer | Unknown]:
        """One conversation with each spool, all of one ledger, in one session; Unknown where not even an owner's frame came back.

        The program is sent along, in a session of its own, when it is not there: after an upgrade, or the first time.
        """
        data = b"".join(request(one.hello, one.query) for one in talks)
        argv = self.argv(talks)
        outcome = self.transport.run(argv, data, timeout)
        if isinstance(outcome, Result) and outcome.code == NO_PROGRAM and _FRAMES_BEGIN not in outcome.out:
            missing = [one for one in talks if str(one.place.program) in outcome.err.decode("utf-8", "replace").split("\n")]
            for one in missing or talks:
                sent = self.ship(one.place, timeout)
                if sent is not None:
                    return [sent] * len(talks)
            outcome = self.transport.run(argv, data, timeout)
        return [self._answer(one, outcome) for one in _parts(outcome.out, len(talks))]

    def argv(self, talks: Sequence[Talk]) -> list[str]:
        """The command of an exchange: in sh, as it has to look whether the program is there, and for a Python."""
        words = ["exchange", "--ledger", talks[0].hello.ledger]
        for one in talks:
            words += ["--root", str(one.place.root)]
        return self._command([one.place for one in talks], words)

    def fetch(self, place: SpoolPlace, attempt: str, name: str, offset: int, length: int, timeout: float) -> tuple[bytes, Missing | Unknown | None]:
        """So many bytes of an output: those that came, and why not all of them did."""
        outcome = self.transport.run(self._command([place], ["send", "--root", str(place.root), attempt, name, str(offset), str(length)]), b"", timeout)
        if isinstance(outcome, Unknown):
            return outcome.out, outcome
        if outcome.code == MISSING:
            return outcome.out, Missing(_said(outcome))
        return outcome.out, None if outcome.code == 0 and len(outcome.out) == length else Unknown(_said(outcome))

    def put(self, place: SpoolPlace, sha256: str, offset: int, size: int, data: bytes, timeout: float) -> tuple[int, bool] | Unknown:
        """Bytes that belong behind the first ``offset`` of ``cache/<sha256>``: (how many are there now, whether that is all, verified)."""
        outcome = self.transport.run(self._command([place], ["receive", "--root", str(place.root), sha256, str(offset), str(size)]), data, timeout)
        if isinstance(outcome, Unknown):
            return outcome
        try:
            said = json.loads(outcome.out)
            return int(said["have"]), bool(said["done"])
        except (ValueError, KeyError, TypeError):
            return Unknown(_said(outcome))

    def program(self, place: SpoolPlace, words: Sequence[str], stdin: bytes, timeout: float) -> Result | Unknown:
        """Run the program there, which is sent first if it is not there."""
        outcome = self.transport.run(self._command([place], words), stdin, timeout)
        if isinstance(outcome, Result) and outcome.code == NO_PROGRAM and not outcome.out:
            sent = self.ship(place, timeout)
            outcome = self.transport.run(self._command([place], words), stdin, timeout) if sent is None else sent
        return outcome

    def _command(self, places: Sequence[SpoolPlace], words: Sequence[str]) -> list[str]:
        """The program with these words, as it has to be called there."""
        first = places[0]
        if isinstance(self.transport, LocalTransport):
            assert first.python is not None
            return [first.python, "-I", "-S", str(first.program), *words]
        programs = " ".join(shlex.quote(str(one.program)) for one in places)
        command = f"-I -S {shlex.quote(str(first.program))} {shlex.join(words)}"
        script = f"miss=; for p in {programs}; do [ -r \"$p\" ] || {{ echo \"$p\" >&2; miss=1; }}; done; [ -z \"$miss\" ] || exit {NO_PROGRAM}\n"
        script += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self.env.items()))
        script += with_python(first.python, command)
        return ["/bin/sh", "-c", script]

    def ship(self, place: SpoolPlace, timeout: float) -> Unknown | None:
        """Put the program where it belongs, whole or not at all; None if it is there."""
        program = ship.build()
        folder, target = shlex.quote(str(place.program.parent)), shlex.quote(str(place.program))
        script = (
            f"umask 077; mkdir -p {folder} && t={target}.$$ && cat >\"$t\" && [ \"$(wc -c <\"$t\")\" -eq {len(program.data)} ] && mv -f \"$t\" {target} "
            f'|| {{ c=$?; rm -f "$t"; exit $c; }}'
        )
        outcome = self.transport.run(["/bin/sh", "-c", script], program.data, timeout)
        if isinstance(outcome, Unknown):
            return Unknown(outcome.why)
        if outcome.code != 0:
            return Unknown(f"the pilot's program cannot be put into {place.program.parent}: {_said(outcome)}")
        return None

    def _answer(self, part: bytes, outcome: Result | Unknown) -> Answer | Unknown:
        answer = parse_answer(part)
        if answer.refused is not None or answer.owner is not None:
            return answer
        if isinstance(outcome, Unknown):
            return Unknown(outcome.why)
        return Unknown(_said(outcome))


def with_python(python: str | None, words: str) -> str:
    """sh that runs ``words`` (sh text) under this Python, or the first of the usual ones that is new enough."""
    if python is not None:
        name = shlex.quote(python)
        return f"[ -x {name} ] || {{ echo {shlex.quote(python + ' is not there: set site.NAME.python')} >&2; exit {NO_PYTHON}; }}\nexec {name} {words}"
    return (
        f"for p in {' '.join(_shell_word(one) for one in PYTHONS)}; do\n"
        "  if [ \"$(\"$p\" -I -S -c 'import sys; print(sys.version_info >= (3, 6))' 2>/dev/null)\" = True ]; then exec \"$p\" " + words + "; fi\n"
        f'done\necho "there is no Python 3.6 or newer: set site.NAME.python" >&2; exit {NO_PYTHON}'
    )


def _shell_word(one: str) -> str:
    return f'"{one}"' if "$" in one else one


def _said(outcome: Result) -> str:
    lines = [line.strip() for line in outcome.err.decode("utf-8", "replace").splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:300] if lines else f"exit {outcome.code}, no answer"


def _parts(data: bytes, n: int) -> list[bytes]:
    """The answers of ``n`` spools, as far as they came; noise before the first frame goes."""
    begin = max(0, data.find(_FRAMES_BEGIN))
    if n == 1:
        return [data[begin:]]
    parts: list[list[bytes]] = [[]]
    parser = FrameParser()
    for one in parser.feed(data[begin:]):
        if one.kind == "next":
            parts.append([])
        else:
            parts[-1].append(frame(one.kind, one.meta, one.body))
    return [b"".join(part) for part in (parts + [[]] * n)[:n]]


def plain(value: Any) -> bytes:
    """JSON as it stands in cards and metadata: one line, sorted, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


assert PIECE < ANSWER_LIMIT
