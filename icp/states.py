"""The states of everything that lives in a ledger, one table per machine: (state, event) -> state (hides every rule of change).

States are small integers because the ledger keeps millions of them. A pair (state, event) that is not listed is refused:
:meth:`Machine.step` raises :class:`RefusedEvent`, and whoever calls it counts that and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "AGENT",
    "ATTEMPT",
    "ATTEMPT_LIVE",
    "DATASET",
    "FILE",
    "MACHINES",
    "PILOT",
    "PILOT_LIVE",
    "TASK",
    "TASK_DONE",
    "TASK_LIVE",
    "Agent",
    "Attempt",
    "Dataset",
    "File",
    "Machine",
    "Pilot",
    "RefusedEvent",
    "Task",
]


class RefusedEvent(Exception):
    """An event that the table does not know for this state."""

    def __init__(self, machine: str, state: IntEnum, event: str) -> None:
        super().__init__(f"{machine}: no move from {state.name.lower()} by {event}")
        self.machine, self.state, self.event = machine, state, event


class Task(IntEnum):
    IDLE = 0
    WAITING = 1
    QUEUED = 2
    PROCESSING = 3
    OK = 4
    FAILED = 5
    SUSPENDED = 6
    CANCELLED = 7


class Attempt(IntEnum):
    QUEUED = 0
    CLAIMED = 1
    COPYING_INPUT = 2
    RUNNING = 3
    COPYING_OUTPUT = 4
    OK = 5
    ERROR = 6
    EVICTED = 7
    RETURNED = 8
    CANCELLED = 9
    RECALLED = 10
    LOST = 11


class Agent(IntEnum):
    LIVE = 0
    SUSPECT = 1
    FENCED = 2
    ENDED = 3


class Pilot(IntEnum):
    PLANNED = 0
    SUBMITTING = 1
    PENDING = 2
    RUNNING = 3
    DRAINING = 4
    DONE = 5
    FAILED = 6
    LOST = 7
    CANCELLED = 8


class File(IntEnum):
    PRODUCED = 0
    RELAYING = 1
    COLLECTING = 2
    HOME = 3
    LOST = 4
    DROPPED = 5


class Dataset(IntEnum):
    PROCESSING = 0
    SUSPENDED = 1
    COMPLETE = 2
    CANCELLED = 3


@dataclass(frozen=True)
class Machine:
    """One table. ``moves[event][state]`` is the next state; ``start`` is where a new row begins."""

    name: str
    states: type[IntEnum]
    start: tuple[IntEnum, ...]
    moves: Mapping[str, Mapping[IntEnum, IntEnum]]
    user: frozenset[str] = frozenset()
    """Events that only a person's command makes: never folded with others, so left out of a fold's pairs."""

    def step(self, state: IntEnum, event: str) -> IntEnum:
        """The next state, or :class:`RefusedEvent`."""
        after = self.moves[event].get(state)
        if after is None:
            raise RefusedEvent(self.name, self.states(state), event)
        return after

    def knows(self, state: IntEnum, event: str) -> bool:
        return state in self.moves[event]

    def edges(self) -> Iterator[tuple[str, IntEnum, IntEnum]]:
        for event, row in self.moves.items():
            for before, after in row.items():
                yield event, before, after

    def pairs(self, *, without: Iterable[str] = ()) -> frozenset[tuple[IntEnum, IntEnum]]:
        """All (start, end) that some sequence of events can make: what one folded write may do to a row."""
        left_out = set(without)
        step: dict[IntEnum, set[IntEnum]] = {state: {state} for state in self.states}
        for event, before, after in self.edges():
            if event not in left_out:
                step[before].add(after)
        reached = {state: set(ends) for state, ends in step.items()}
        growing = True
        while growing:
            growing = False
            for ends in reached.values():
                more = set().union(*(step[end] for end in ends)) - ends
                if more:
                    ends |= more
                    growing = True
        return frozenset((before, after) for before, ends in reached.items() for after in ends)

    def diagram(self) -> str:
        """The table as a Mermaid state diagram; moves to the same state are left out."""
        labels: dict[tuple[IntEnum, IntEnum], list[str]] = {}
        for event, before, after in self.edges():
            if before != after:
                labels.setdefault((before, after), []).append(event)
        lines = ["stateDiagram-v2"]
        lines += [f"    [*] --> {state.name.lower()}" for state in self.start]
        lines += [
            f"    {before.name.lower()} --> {after.name.lower()}: {', '.join(events)}"
            for (before, after), events in sorted(labels.items())
        ]
        leaves = {before for before, _ in labels}
        lines += [f"    {state.name.lower()} --> [*]" for state in self.states if state not in leaves]
        return "\n".join(lines)


def _all(states: Iterable[IntEnum], after: IntEnum) -> dict[IntEnum, IntEnum]:
    return dict.fromkeys(states, after)


def _same(states: Iterable[IntEnum]) -> dict[IntEnum, IntEnum]:
    return {state: state for state in states}


_T = Task
TASK_LIVE = frozenset({_T.IDLE, _T.WAITING, _T.QUEUED, _T.PROCESSING})
"""Tasks that the engine still has work with; ``suspended`` and ``failed`` wait for a person."""
TASK_DONE = frozenset({_T.OK, _T.CANCELLED})

TASK = Machine(
    "task",
    Task,
    # a final task none of whose inputs is ok begins cancelled
    (_T.IDLE, _T.WAITING, _T.CANCELLED),
    {
        "ready": {_T.IDLE: _T.WAITING},
        "unready": {_T.WAITING: _T.IDLE, **_same((_T.IDLE, _T.QUEUED, _T.PROCESSING))},
        "carded": _all((_T.IDLE, _T.WAITING), _T.QUEUED),
        "claimed": {
            **_all((_T.IDLE, _T.WAITING, _T.QUEUED), _T.PROCESSING),
            **_same((_T.PROCESSING, _T.SUSPENDED, _T.FAILED, _T.OK, _T.CANCELLED)),
        },
        "accepted": {
            **_all((_T.IDLE, _T.WAITING, _T.QUEUED, _T.PROCESSING, _T.FAILED, _T.SUSPENDED), _T.OK),
            # not accepted: the caller leaves accepted_attempt empty
            _T.CANCELLED: _T.CANCELLED,
        },
        "again": {
            **_all((_T.QUEUED, _T.PROCESSING), _T.WAITING),
            **_same((_T.IDLE, _T.WAITING, _T.OK, _T.FAILED, _T.SUSPENDED, _T.CANCELLED)),
        },
        "exhausted": {
            **_all((_T.IDLE, _T.WAITING, _T.QUEUED, _T.PROCESSING, _T.SUSPENDED), _T.FAILED),
            **_same((_T.OK, _T.FAILED, _T.CANCELLED)),
        },
        "suspend": _all((_T.IDLE, _T.WAITING, _T.QUEUED, _T.PROCESSING), _T.SUSPENDED),
        "resume": {_T.SUSPENDED: _T.WAITING},
        "cancel": _all((_T.IDLE, _T.WAITING, _T.QUEUED, _T.PROCESSING, _T.SUSPENDED, _T.FAILED), _T.CANCELLED),
        "retry": {_T.FAILED: _T.WAITING},
        "reset": _all(Task, _T.WAITING),
        "output_lost": {_T.OK: _T.WAITING},
    },
    frozenset({"suspend", "resume", "cancel", "retry", "reset"}),
)

_A = Attempt
_ATTEMPT_ORDER = (_A.QUEUED, _A.CLAIMED, _A.COPYING_INPUT, _A.RUNNING, _A.COPYING_OUTPUT)
ATTEMPT_LIVE = frozenset(_ATTEMPT_ORDER)


def _advance(to: Attempt) -> dict[IntEnum, IntEnum]:
    return _all(_ATTEMPT_ORDER[: _ATTEMPT_ORDER.index(to)], to)


ATTEMPT = Machine(
    "attempt",
    Attempt,
    (_A.QUEUED,),
    {
        "claimed": _advance(_A.CLAIMED),
        "staging": _advance(_A.COPYING_INPUT),
        "running": _advance(_A.RUNNING),
        "storing": _advance(_A.COPYING_OUTPUT),
        "ended_ok": {**_all(_ATTEMPT_ORDER, _A.OK), _A.LOST: _A.OK, _A.RECALLED: _A.OK},
        "ended_error": _all(_ATTEMPT_ORDER, _A.ERROR),
        "ended_evicted": _all(_ATTEMPT_ORDER, _A.EVICTED),
        "ended_returned": _all(_ATTEMPT_ORDER, _A.RETURNED),
        "ended_cancelled": _all(_ATTEMPT_ORDER, _A.CANCELLED),
        "withdrawn": _all((_A.QUEUED, _A.CLAIMED), _A.RECALLED),
        "gone": _all(_ATTEMPT_ORDER, _A.LOST),
        "agent_died": {_A.CLAIMED: _A.RETURNED, **_all(_ATTEMPT_ORDER[2:], _A.LOST)},
    },
)

_G = Agent
AGENT = Machine(
    "agent",
    Agent,
    (_G.LIVE,),
    {
        "silent": {_G.LIVE: _G.SUSPECT},
        "grew": {_G.SUSPECT: _G.LIVE, _G.LIVE: _G.LIVE},
        "stopped": _all((_G.LIVE, _G.SUSPECT, _G.FENCED), _G.ENDED),
        "agent_died": _all((_G.LIVE, _G.SUSPECT, _G.FENCED), _G.ENDED),
        "fenced": _all((_G.LIVE, _G.SUSPECT), _G.FENCED),
        "batch_end": {_G.FENCED: _G.ENDED},
    },
)

_P = Pilot
PILOT_LIVE = frozenset({_P.PLANNED, _P.SUBMITTING, _P.PENDING, _P.RUNNING, _P.DRAINING})
PILOT = Machine(
    "pilot",
    Pilot,
    (_P.PLANNED,),
    {
        "ordered": {_P.PLANNED: _P.SUBMITTING},
        "receipt": {_P.SUBMITTING: _P.PENDING},
        "refused": {_P.SUBMITTING: _P.FAILED},
        "absent": {_P.SUBMITTING: _P.FAILED},
        "agent_started": {
            **_all((_P.SUBMITTING, _P.PENDING, _P.FAILED, _P.LOST), _P.RUNNING),
            **_same((_P.RUNNING, _P.DRAINING)),
        },
        "batch_running": {**_all((_P.SUBMITTING, _P.PENDING), _P.RUNNING), **_same((_P.RUNNING, _P.DRAINING))},
        "drain": {_P.RUNNING: _P.DRAINING, _P.DRAINING: _P.DRAINING},
        "end_clean": _all((_P.RUNNING, _P.DRAINING), _P.DONE),
        "end_unclean": _all((_P.PENDING, _P.RUNNING, _P.DRAINING), _P.FAILED),
        "vanished": _all((_P.PENDING, _P.RUNNING, _P.DRAINING), _P.LOST),
        "cancel": {_P.PLANNED: _P.CANCELLED},
        "end_ordered": _all((_P.SUBMITTING, _P.PENDING, _P.RUNNING, _P.DRAINING), _P.CANCELLED),
    },
)

_F = File
FILE = Machine(
    "file",
    File,
    (_F.PRODUCED,),
    {
        "wanted_home": _all((_F.PRODUCED, _F.RELAYING), _F.COLLECTING),
        "wanted_away": {_F.PRODUCED: _F.RELAYING},
        "interrupted": _all((_F.COLLECTING, _F.RELAYING), _F.PRODUCED),
        "verified": _all((_F.COLLECTING, _F.RELAYING), _F.HOME),
        "missing": _all((_F.PRODUCED, _F.COLLECTING, _F.RELAYING), _F.LOST),
        "unneeded": _all((_F.PRODUCED, _F.RELAYING, _F.COLLECTING, _F.HOME), _F.DROPPED),
        "relay_gone": {_F.HOME: _F.PRODUCED},
    },
)

_D = Dataset
DATASET = Machine(
    "dataset",
    Dataset,
    (_D.PROCESSING,),
    {
        "suspend": {_D.PROCESSING: _D.SUSPENDED},
        "stop_loss": {_D.PROCESSING: _D.SUSPENDED},
        "resume": {_D.SUSPENDED: _D.PROCESSING},
        "finished": {_D.PROCESSING: _D.COMPLETE},
        "reopened": {_D.COMPLETE: _D.PROCESSING, _D.PROCESSING: _D.PROCESSING, _D.SUSPENDED: _D.SUSPENDED},
        "cancel": _all((_D.PROCESSING, _D.SUSPENDED), _D.CANCELLED),
    },
    frozenset({"suspend", "resume", "cancel"}),
)

MACHINES = (TASK, ATTEMPT, AGENT, PILOT, FILE, DATASET)
