"""Conversations with hosts, side by side; a slow one may outlast a tick (hides threads, transports and what shares a connection)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from icp.backends.base import Transport, Unknown
from icp.backends.openssh import OpenSSH
from icp.backends.spool_client import Hello, Query, SpoolClient, SpoolPlace, Talk
from icp.backends.ssh_socket import control_folder
from icp.backends.transport import LocalTransport
from icp.config import Config, Site
from icp.model.exchange import Answer

__all__ = ["Exchanger", "Lines", "transport"]

Exchanger = Callable[[Site, Hello, Query], "Answer | Unknown"]
HOSTS = 32
"""Hosts that are talked to at once."""


def transport(config: Config, site: Site) -> Transport:
    """How a site is reached. Objects for one host share one connection, its limits and its memory of troubles."""
    if site.host is None:
        return LocalTransport(site.env)
    return OpenSSH(
        site.host, control_folder(config.places.state), config=config.ssh.config, connect_timeout=config.ssh.connect_timeout, persist=str(config.ssh.persist)
    )


class Lines:
    """One conversation at a time with each host; ``exchanger`` replaces them (tests lose, double and delay answers with it)."""

    def __init__(self, config: Config, exchanger: Exchanger | None = None) -> None:
        self.config, self.exchanger = config, exchanger
        self._pool = ThreadPoolExecutor(HOSTS)
        self._flying: dict[Future[list[Answer | Unknown]], list[Site]] = {}
        self._transports: dict[str, Transport] = {}

    @property
    def busy(self) -> frozenset[str]:
        """Sites whose answer is not there yet."""
        return frozenset(site.name for some in self._flying.values() for site in some)

    def landed(self) -> bool:
        """Whether some answer waits to be taken."""
        return any(future.done() for future in self._flying)

    def begin(self, talks: Sequence[tuple[Site, SpoolPlace, Hello, Query]]) -> None:
        """Talk to these sites: all of one host in one session."""
        groups: dict[str, list[tuple[Site, SpoolPlace, Hello, Query]]] = {}
        for one in talks:
            alone = self.exchanger is not None or one[0].host is None
            groups.setdefault(one[0].name if alone else f"host {one[0].host}", []).append(one)
        for some in groups.values():
            self._flying[self._pool.submit(self._talk, some)] = [one[0] for one in some]

    def answers(self, patience: float | None) -> Iterator[tuple[Site, Answer | Unknown]]:
        """Answers as they come, until all are there or ``patience`` seconds have passed; the others come another time."""
        deadline = None if patience is None else time.monotonic() + patience
        while self._flying:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            done, _ = wait(self._flying, left, FIRST_COMPLETED)
            if not done:
                return
            for future in done:
                sites = self._flying.pop(future)
                yield from zip(sites, future.result(), strict=True)

    def exchange(self, site: Site, place: SpoolPlace, hello: Hello, query: Query) -> Answer | Unknown:
        """One conversation, now."""
        return self._talk([(site, place, hello, query)])[0]

    def _talk(self, talks: Sequence[tuple[Site, SpoolPlace, Hello, Query]]) -> list[Answer | Unknown]:
        first = talks[0][0]
        if self.exchanger is not None:
            return [self.exchanger(first, talks[0][2], talks[0][3])]
        try:
            return SpoolClient(self.transport(first), first.env).exchange([Talk(place, hello, query) for _, place, hello, query in talks])
        except OSError as error:
            # a full disk here, say: nothing is known of the site
            return [Unknown(f"{error.filename or 'this machine'}: {error.strerror}")] * len(talks)

    def transport(self, site: Site) -> Transport:
        """The way to a site's host, kept."""
        key = f"host {site.host}" if site.host is not None else site.name
        if key not in self._transports:
            self._transports[key] = transport(self.config, site)
        return self._transports[key]

    def needs_login(self, site: Site) -> bool:
        """Whether the site's host lets only a person in."""
        way = self._transports.get(f"host {site.host}")
        return isinstance(way, OpenSSH) and way.needs_login

    def close(self) -> None:
        """Hang up: conversations that are under way are cut, and no process of ours stays. What they order is ordered again."""
        for one in self._transports.values():
            if isinstance(one, OpenSSH):
                one.hang_up()
        self._pool.shutdown(wait=True, cancel_futures=True)
