"""What a way to software is, and what it is made of: the site's configuration, the agent's scratch, a cache (hides where a cache of CVMFS may lie)."""

import os
import re
import shutil

from . import trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Kit", "Step", "Way", "client_said"]

_OPTIONS = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(.+)\Z")


class Kit:
    """What ways are made of: the site's configuration, the agent's scratch, and what was found out about the node."""

    def __init__(self, told: "dict[str, Any]", scratch: str, env: "dict[str, str]", gpus: bool, tool: "Any") -> None:
        """``tool(name)`` is the path of a program that the site's configuration gives, or a sentence why there is none."""
        self.told, self.scratch, self.env, self.gpus, self.tool = told, scratch, env, gpus, tool
        self.patience = float(told.get("patience") or 60)
        self._cache = ""
        self.in_memory = ""
        """Why the cache lies in memory, where it must be bounded."""

    def run(self, *argv: str, **more: str) -> trial.Outcome:
        """Tries a command with the agent's environment and ``more``."""
        # what it tries may want a place for files of its own, and /tmp may be full
        env = dict(self.env, TMPDIR=self.scratch)
        env.update(more)
        return trial.attempt(argv, env, self.patience)

    def program(self, name: str) -> "str | None":
        """A program of the node's."""
        return shutil.which(name, path=f"{self.env.get('PATH', os.defpath)}:/usr/sbin:/sbin")

    @property
    def quota(self) -> int:
        """MB of a cache of CVMFS; 0: the client's own limit."""
        return int(self.told.get("quota") or 0) // 1000000

    def repositories(self) -> "dict[str, dict[str, str]]":
        """Options of the repositories that the site configures: ``{"REPO": {"url": "A;B", "pubkey": "/x.pub"}}``."""
        found = {}
        for text in self.told.get("repositories") or ():
            match = _OPTIONS.match(text)
            if match:
                found[match.group(1)] = dict(part.partition("=")[::2] for part in match.group(2).split(","))
        return found

    def cache(self) -> "tuple[str, str]":
        """(a directory of the agent's for a cache of CVMFS, "") or ("", why there is none)."""
        if not self._cache:
            place, why = self._place()
            if why:
                return "", why
            self._cache = place
        return self._cache, ""

    def _place(self) -> "tuple[str, str]":
        from . import node

        wanted = self.told.get("cache")
        base = os.path.expandvars(str(wanted)) if wanted else self.scratch
        kind = node.file_system(base)
        if not wanted and kind in NETWORKS:
            # A cache of CVMFS on a network file system fails; memory is the one local place that is left.
            size, slots = (self.quota or 1000) * 1000000, max(1, int(self.told.get("slots") or 1))
            try:
                free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
                if free < size * slots or not os.access("/dev/shm", os.W_OK):
                    each = "" if slots == 1 else f" ({size // 1000000} MB for each of {slots} slots)"
                    return "", f"this node has no disk of its own ({base} is on {kind}), and /dev/shm has no {size * slots // 1000000} MB free{each}"
            except OSError as error:
                return "", f"this node has no disk of its own ({base} is on {kind}), and no /dev/shm: {error.strerror}"
            self.told["quota"], self.in_memory = size, f"this node has no disk of its own ({base} is on {kind})"
            base = "/dev/shm"
        name = os.path.basename(self.scratch)
        place = f"{self.scratch}/cvmfs" if base == self.scratch else f"{base}/{name}-cvmfs"
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
        except OSError as error:
            return "", f"no cache can be made in {base}: {error.strerror}"
        return place, ""

    def close(self) -> None:
        """Removes a cache that does not lie in the scratch."""
        if self._cache and not self._cache.startswith(self.scratch + "/"):
            from .disk import remove_tree

            remove_tree(self._cache)


NETWORKS = (
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "fuse.ceph", "panfs", "afs", "cifs", "smb3", "9p", "glusterfs", "fuse.glusterfs",
    "fuse.sshfs",
)  # fmt: skip
"""File systems that other hosts write too."""


_LOGGED = re.compile(r"^.{24} \(.*?\) (?!Failed to initialize)(.*\bfailed\b (?!to resolve IP addresses for  ).*)$", re.MULTILINE)


def client_said(path: str) -> str:
    """Why a client of CVMFS could not show a repository, from its log (what it prints is "Failed to initialize root file catalog"
    whatever was wrong); "" where that tells nothing.
    """
    try:
        with open(path, errors="replace") as stream:
            found = _LOGGED.findall(stream.read(256 * 1024))
    except OSError:
        return ""
    return str(found[-1])[:200] if found else ""


class Step:
    """What is started: its variables, its directory, and the name of the slot that is its own meanwhile."""

    def __init__(self, env: "dict[str, str]", work: str, slot: str) -> None:
        self.env, self.work, self.slot = env, work, slot


_ASIDE = 'exec 9>&1; if [ -n "$ICP_SAID" ]; then exec >"$ICP_SAID"; else exec >&2; fi; exec "$@"'
_BACK = 'exec >&9 9>&-; unset ICP_SAID; exec "$@"'


class Way:
    """One way, for one environment: ``wanted`` are its repositories, ``copies`` [(a directory here, where it shall appear)]."""

    name = ""
    hides = False
    """Whether what it starts ends with another exit code than the command (proot says 0 of one that was killed)."""
    counts = True
    """Whether the system counts the command's time and memory as the wrapper's (Parrot does not wait for what it traces)."""
    last = ""
    """What sh does when the command has ended, so that its wrapper ends too."""
    reads_copies = False
    """Whether it shows copies (a tree of the site's, an unpacked tarball) rather than the repositories themselves."""
    chats = False
    """Whether it says things of its own on the standard output, which is the command's."""

    def __init__(self, kit: Kit, wanted: "list[str]", copies: "list[tuple[str, str]]") -> None:
        self.kit, self.wanted, self.copies = kit, wanted, copies

    def lacks(self) -> str:
        """What is missing for it on this node, found by trying; "" where nothing is."""
        return ""

    def ready(self, slot: str) -> None:
        """Prepares the slot of this name; may take long. OSError."""

    def reason(self, said: str) -> str:
        """Why a trial of it was in vain, which said so much itself."""
        return said

    def revision(self, name: str) -> str:
        """What the trial showed of a repository, where that cannot be seen through it."""
        del name
        return ""

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        """What to start in place of ``argv``; adds what it wants to the step's variables."""
        del step
        return argv

    def start(self, argv: "list[str]", step: Step) -> "list[str]":
        """As ``wrap``, and the standard output is the command's alone: the way's own is ``$ICP_SAID``, or the standard error."""
        if not self.chats:
            return self.wrap(argv, step)
        return ["/bin/sh", "-c", _ASIDE, "sh", *self.wrap(["/bin/sh", "-c", _BACK, "sh", *argv], step)]
