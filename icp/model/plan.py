"""What the planner is shown, and what it answers: frozen records, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icp.model.need import Need

__all__ = [
    "Action",
    "AgentView",
    "ClassView",
    "DatasetView",
    "Deal",
    "DefView",
    "PilotSpec",
    "PilotView",
    "Policy",
    "Recall",
    "Release",
    "SiteView",
    "Snapshot",
    "Submit",
    "Withdraw",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """Numbers that a person may set (``[policy]`` of the configuration)."""

    depth: float = 120.0
    """Seconds of work that wait at a site for each of its slots."""
    stay: float = 600.0
    """Seconds within which the sites of its inputs' zone shall begin a task: only what they cannot goes to another zone, with its inputs."""
    card_seconds: float = 60.0
    """Work in one card, once a task definition's run time is known."""
    direct_seconds: float = 1200.0
    """The same at a site without pilots: work in one batch job."""
    card_tasks: int = 400
    queue_tasks: int = 6000
    """Attempts that wait at one site at the most."""
    tick_tasks: int = 2000
    """Attempts that one tick deals to one site at the most: the first of many are at work while the next are dealt."""
    release_jobs: int = 5000
    """Jobs that become rows in one tick at the most."""
    silent: float = 300.0
    """Observed seconds without a fact after which an agent is suspect."""
    gap: float = 120.0
    """What one gap between two exchanges counts for at the most, seconds: a laptop that slept makes nobody silent."""
    pending: float = 900.0
    """Observed seconds after which a pilot that has not started keeps no work from other sites."""
    margin: float = 600.0
    """Seconds after an agent's walltime at which it cannot be alive any more."""
    queued: float = 86400.0
    claimed: float = 3600.0
    copying: float = 7200.0
    retention: float = 14 * 86400.0
    """Seconds that journals stay at a site after they were read."""
    backoff: tuple[float, ...] = (0, 60, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class PilotSpec:
    """What one pilot of a site is asked to be. None: what the node has."""

    cpus: int | None = None
    memory: int | None = None
    disk: int | None = None
    gpus: int | None = None
    nodes: int = 1
    walltime: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    max: int = 1
    max_pending: int = 1
    rate: int = 120
    """Submitted within an hour at the most."""
    idle: float = 60.0
    direct: bool = False
    """There are no pilots: each card is a batch job, which asks for what the card needs. What is said here bounds it."""
    one_host: bool = False
    """All pilots run on one host."""


@dataclass(frozen=True, slots=True)
class AgentView:
    cpus: int
    memory: int
    disk: int
    gpus: int
    attrs: Mapping[str, Any]
    left: float | None
    """Seconds until its walltime ends."""
    suspect: bool = False
    leaving: bool = False
    """Its pilot was told to end, or said that it does, or was there for one card only."""
    host: str | None = None
    """None: nobody knows yet."""

    @property
    def takes(self) -> bool:
        """Whether it can be counted on to claim more."""
        return not self.suspect and not self.leaving


@dataclass(frozen=True, slots=True)
class PilotView:
    pending: bool
    """Submitted, and not begun."""
    starting: bool = False
    """Begun, and no agent of it was seen yet."""
    waited: float = 0.0
    """Observed seconds since it took this state."""
    stopping: bool = False
    """Its end was ordered."""
    never: str | None = None
    """It waits for what never comes: what mends it."""
    said: str | None = None
    """Why it waits, in the batch system's words."""

    @property
    def coming(self) -> bool:
        """Whether it will bring agents that are not there yet."""
        return (self.pending or self.starting) and not self.stopping


@dataclass(frozen=True, slots=True)
class SiteView:
    id: int
    name: str
    zone: int
    attributes: Mapping[str, Any]
    spec: PilotSpec
    agents: tuple[AgentView, ...] = ()
    pilots: tuple[PilotView, ...] = ()
    reachable: bool = True
    login: bool = False
    """It is not reachable as it lets only a person in."""
    paused: str | None = None
    hold: float = 0.0
    """No pilot is submitted before this moment."""
    lacks: str | None = None
    """What its pilots would look for, and is not here to be shipped yet."""
    busy: bool = False
    """A conversation with it is under way: it gets nothing in this tick."""
    recent: int = 0
    """Pilots submitted within the last hour."""
    node: AgentView | None = None
    """What the last agent there had: stands for pilots that are not there yet."""


@dataclass(frozen=True, slots=True)
class DatasetView:
    id: int
    priority: int
    unreleased: int
    """Jobs that may still become rows, counted into groups already."""
    max_running: int | None = None
    """Tasks of it that are at sites at once, at the most."""
    sites: frozenset[str] | None = None
    """Names of the sites that it may use; None: all."""


@dataclass(frozen=True, slots=True)
class DefView:
    id: int
    dataset: int
    idx: int
    root: bool
    """Ready as soon as its job is released."""
    seconds: float | None
    """Median wall time of accepted attempts; None before the first."""


@dataclass(frozen=True, slots=True)
class ClassView:
    """``n`` tasks that are alike; ``state`` is one of icp.states.Task, ``site`` 0 unless queued or processing."""

    dataset: int
    task_def: int
    need: int
    zone: int
    site: int
    state: int
    n: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    datasets: tuple[DatasetView, ...] = ()
    defs: Mapping[int, DefView] = field(default_factory=dict)
    needs: Mapping[int, Need] = field(default_factory=dict)
    classes: tuple[ClassView, ...] = ()
    sites: tuple[SiteView, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Make ``jobs`` more jobs of a dataset into rows."""

    dataset: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Deal:
    """Put ``n`` waiting tasks of a class into cards for a site, ``per_card`` tasks each."""

    dataset: int
    task_def: int
    need: int
    zone: int
    site: int
    n: int
    per_card: int
    cards: int | None = None
    """How many at the most: each is a batch job of its own."""
    anywhere: bool = False
    """Also on hosts that these tasks should be kept away from: there is no other place."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit ``n`` pilots at a site."""

    site: int
    n: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Cancel ``n`` pilots of a site that have not begun: there is no work for them any more."""

    site: int
    n: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Call ``n`` tasks of a class back from a site whose pilots do not start: others have room for them."""

    task_def: int
    need: int
    site: int
    n: int
    avoiding: bool = False
    """Only cards that the hosts may not take which they should be kept away from: no other host of the site will."""


Action = Release | Deal | Submit | Withdraw | Recall
