"""The lab for tests: sites of its own for each test process, brought up when first asked for, all gone at the end (hides its scripts)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NEEDED = ("sbatch", "slurmctld", "slurmd", "munged", "sshd", "ip", "nsenter")


@dataclass
class Lab:
    """One set of sites with a network and a state directory of its own, so that others' sites are left alone."""

    number: int
    up: set[str] = field(default_factory=set)

    @property
    def run(self) -> Path:
        return Path(f"/run/icp-lab-t{self.number}")

    @property
    def ssh_config(self) -> Path:
        return self.run / "client" / "ssh_config"

    def script(self, name: str, *words: object, check: bool = True, timeout: float = 90, **knobs: str) -> str:
        """Run one of the lab's scripts; not with the test's own environment, by which processes are found that it left behind."""
        env = {"PATH": os.defpath, "HOME": "/root", "LAB_RUN": str(self.run), "LAB_NET": f"10.213.{100 + self.number}"}
        env |= {"LAB_BRIDGE": f"icplabt{self.number}", **knobs}
        command = [str(HERE / name), *map(str, words)]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            pytest.fail(f"{name} {' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def site(self, letter: str, host: int, *kind: object, **knobs: str) -> LabSite:
        """A site named ``nsa`` and the like, with the number of the test process behind it."""
        name = f"ns{letter}{self.number}"
        if name not in self.up:
            self.script("site-up.sh", name, host, *kind, **knobs)
            self.up.add(name)
        return LabSite(self, name)

    def down(self) -> None:
        if self.up:
            self.script("down.sh", "--purge", check=False)


@dataclass(frozen=True)
class LabSite:
    """One login node with its cluster."""

    lab: Lab
    name: str

    @property
    def kind(self) -> str:
        """slurm, sge, condor or torque."""
        found = re.search(r'^declare -g -- KIND="(\w+)"$', (self.lab.run / "ns" / self.name / "params").read_text(), re.MULTILINE)
        assert found, self.name
        return found[1]

    def bring_up(self) -> None:
        """What was killed comes back."""
        self.lab.script("site-up.sh", self.name)

    def kill(self, part: str, *which: object) -> None:
        self.lab.script("site-kill.sh", self.name, part, *which)

    def net(self, *words: object) -> None:
        self.lab.script("site-net.sh", self.name, *words)

    def quirk(self, what: str, how: object) -> None:
        self.lab.script("site-quirk.sh", self.name, what, how)

    def ssh(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command there by plain ssh, apart from what is tested."""
        words = ["ssh", "-F", str(self.lab.ssh_config), self.name, command]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def inside(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """A command there as root, without ssh and whatever its network does."""
        command = ["nsenter", "-t", str(self._first()), "-m", "-u", "-i", "-n", "-p", "--", "env", f"SLURM_CONF={self._state / 'slurm.conf'}", *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)

    @property
    def root(self) -> Path:
        """The site's own "/", with all that is mounted in it."""
        return Path(f"/proc/{self._first()}/root")

    def _first(self) -> int:
        """The first process of the site's own."""
        outer = (self.lab.run / "pids" / f"{self.name}.ns.pid").read_text().split()[0]
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])

    @property
    def _state(self) -> Path:
        return self.lab.run / "ns" / self.name / "run" / self.name

    def log(self) -> str:
        return (self._state / "ssh" / "sshd.log").read_text(errors="replace")

    def well(self) -> None:
        """As new: links up, no quirks, everything running."""
        self.net("up")
        for quirk in ("banner", "noisyrc", "slowlogin", "fullhome", "password", "code", "nodisk"):
            self.quirk(quirk, "off")
        self.bring_up()
        from tests.lab.queues import queue  # it imports this module

        queue(self).cancel_all()
        if self.kind == "slurm":
            self._free_nodes()

    def _free_nodes(self) -> None:
        """Jobs of a node that died go on completing for minutes, and it takes no other meanwhile: one that was down forgets them."""
        begin = time.monotonic()
        while (states := set(self.inside("sinfo", "-h", "-N", "-o", "%T").stdout.split())) != {"idle"}:
            waited = time.monotonic() - begin
            assert waited < 120, f"nodes of {self.name}: {states}"
            if waited > 5:
                for state in ("down", "resume"):
                    self.inside("scontrol", "update", "nodename=ALL", f"state={state}", "reason=lab")
            time.sleep(1)


@dataclass
class Sshd:
    """What a login node's sshd wrote since this was made."""

    site: LabSite
    begin: int = 0

    def __post_init__(self) -> None:
        self.begin = len(self.site.log())

    def _lines(self) -> list[str]:
        return self.site.log()[self.begin :].splitlines()

    @property
    def connections(self) -> int:
        return sum("Accepted publickey" in line for line in self._lines())

    @property
    def sessions(self) -> int:
        return sum("Starting session" in line for line in self._lines())

    @property
    def at_once(self) -> int:
        """Sessions that were open at the same time, at the most."""
        open_now = most = 0
        for line in self._lines():
            open_now += ("Starting session" in line) - bool(re.search(r"Close session: user", line))
            most = max(most, open_now)
        return most


@pytest.fixture(scope="session")
def lab(worker_id: str) -> Iterator[Lab]:
    """Needs root and `tests/lab/install.sh`; says so where ICP_LAB=1 was asked for in vain."""
    missing = [name for name in NEEDED if shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin") is None]
    if os.geteuid() != 0 or missing:
        pytest.fail(f"the lab needs root, and {', '.join(missing) or 'nothing more'}: run tests/lab/install.sh as root")
    # several checkouts may test at once: ICP_LAB_BASE sets them apart
    one = Lab(int(os.environ.get("ICP_LAB_BASE", "0")) + (int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 9))
    yield one
    one.down()


@pytest.fixture(scope="session")
def _nsa(lab: Lab) -> LabSite:
    return lab.site("a", 11, "slurm", 2, 8)


@pytest.fixture
def nsa(_nsa: LabSite) -> LabSite:
    """A SLURM cluster without accounting. A test that breaks it uses ``broken_nsa``."""
    return _nsa


@pytest.fixture
def broken_nsa(_nsa: LabSite) -> Iterator[LabSite]:
    """The same, made well again after the test."""
    yield _nsa
    _nsa.well()


@pytest.fixture(scope="session")
def _nsb(lab: Lab) -> LabSite:
    return lab.site("b", 12, "slurm", 2, 8, ACCT="dbd", MINJOBAGE="2")


@pytest.fixture
def nsb(_nsb: LabSite) -> LabSite:
    """A SLURM cluster with accounting, where finished jobs leave squeue at once."""
    return _nsb


@pytest.fixture
def broken_nsb(_nsb: LabSite) -> Iterator[LabSite]:
    """The same, made well again after the test."""
    yield _nsb
    _nsb.well()
