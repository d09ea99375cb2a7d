"""What may happen to the main job between here and the clusters, one thing a call; each is over when it returns (hides how it is done)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

from tests.lab.muons_home import Muons

__all__ = ["Disturber"]


class Disturber:
    """Disturbs a home's sites by chance; ``home.count`` says what was done."""

    def __init__(self, home: Muons, seed: int) -> None:
        self.home, self.random = home, random.Random(seed)

    def everything(self) -> list[Callable[[], None]]:
        """All of it, each once."""
        return [
            self.cancel_pilots, self.requeue_pilot, self.kill_node, self.kill_scheduler, self.kill_sshd, self.kill_client, self.kill_master, self.link_down,
            self.fill_disk, self.noise,
        ]  # fmt: skip

    def _site(self) -> str:
        return self.random.choice(sorted(self.home.sites))

    def _busy(self) -> tuple[str, list[str]]:
        """A site at work, and its pilots that run."""
        return self.home.running_pilot(*self.random.sample(sorted(self.home.sites), len(self.home.sites)))

    # -- the batch system ---------------------------------------------------------------------------------------

    def cancel_pilots(self) -> None:
        """Every batch job of ours, at all sites."""
        self._busy()
        for name, site in self.home.sites.items():
            site.inside("scancel", *self.home.batch(name, "RUNNING", "PENDING"))
        self.home.count["all pilots cancelled"] += 1

    def requeue_pilot(self) -> None:
        """An operator lets a running pilot begin anew, though it asked not to be."""
        name, jobs = self._busy()
        for job in jobs:
            self.home.sites[name].inside("scontrol", "update", f"JobId={job}", "Requeue=1")
            done = self.home.sites[name].inside("scontrol", "requeue", job)
            # it would wait for two minutes
            self.home.sites[name].inside("scontrol", "update", f"JobId={job}", "StartTime=now")
            self.home.count["pilot requeued"] += done.returncode == 0

    def kill_node(self) -> None:
        name, _ = self._busy()
        for which in (1, 2):
            self.home.sites[name].kill("node", which)
        time.sleep(self.random.uniform(0, 3))
        self.home.sites[name].bring_up()
        self.home.count["nodes killed"] += 1

    def kill_scheduler(self) -> None:
        name, _ = self._busy()
        self.home.sites[name].kill("scheduler")
        time.sleep(self.random.uniform(2, 5))
        self.home.sites[name].bring_up()
        self.home.count["slurmctld killed"] += 1

    # -- the way ------------------------------------------------------------------------------------------------

    def kill_sshd(self) -> None:
        name = self._site()
        self.home.sites[name].kill("sshd")
        time.sleep(self.random.uniform(2, 5))
        self.home.sites[name].bring_up()
        self.home.count["sshd killed"] += 1

    def kill_client(self) -> None:
        """A client of ssh that carries a conversation, at some moment of it; the next one may be left in peace for a while."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.home.busy()
            found = self.home.clients()
            if found:
                time.sleep(self.random.uniform(0, 0.2))
                if _kill(found[0]):  # else it was quicker
                    self.home.count["ssh client killed"] += 1
                    return
            time.sleep(0.002)

    def kill_master(self) -> None:
        found = self.home.masters()
        if found:
            self.home.count["shared connection killed"] += _kill(self.random.choice(found))

    def link_down(self, seconds: float | None = None) -> None:
        name = self._site()
        self.home.sites[name].net("down")
        time.sleep(self.random.uniform(3, 8) if seconds is None else seconds)
        self.home.sites[name].net("up")
        self.home.count["link down"] += 1

    # -- the place ----------------------------------------------------------------------------------------------

    def fill_disk(self) -> None:
        """The spool's; ``home.small_disk`` made it."""
        name, _ = self._busy()
        self.home.fill(name, self.random.uniform(1, 5))

    def noise(self) -> None:
        """What is printed at a login, and how long it takes."""
        site = self.home.sites[self._site()]
        for quirk, how in (("banner", "on"), ("noisyrc", "on"), ("slowlogin", 1)):
            site.quirk(quirk, how)
        time.sleep(self.random.uniform(3, 6))
        for quirk in ("banner", "noisyrc", "slowlogin"):
            site.quirk(quirk, "off")
        self.home.count["noise"] += 1


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
