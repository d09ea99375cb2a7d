"""The ways in which a task is given ``/cvmfs``, or what stands for it, one class each (hides their options and environments).

A new way is one more class, and its place in WAYS. Each is made once for an agent and an environment. A task is wrapped, the
pilot never is: docs/decisions/0013.
"""

import os
import re
import shutil
import sys

from .kit import Kit, Step, Way, client_said
from .parrot import Parrot, ParrotCopy

__all__ = ["WAYS", "Kit", "Step", "Way"]

RESET = (
    "import os,signal,sys\nfor n in (1,2,3,13,15,25): signal.signal(n,signal.SIG_DFL)\n"
    "os.environ.update(TMPDIR=os.environ.get('ICP_TMP',os.environ.get('TMPDIR','/tmp')))\nos.execvp(sys.argv[1],sys.argv[1:])"
)
"""What cvmfsexec starts inherits signals ignored, which POSIX sh cannot mend, and a TMPDIR that is cvmfsexec's own."""


class Mounted(Way):
    """CVMFS is mounted on the node."""

    name = "mounted"

    def lacks(self) -> str:
        if not self.wanted and not self.kit.run("ls", "/cvmfs/").out.strip():
            return "there is nothing in /cvmfs"
        for one in self.wanted:
            found = self.kit.run("ls", f"/cvmfs/{one}/")
            if not found.ok:
                return found.why(self.kit.patience)
            if not found.out.strip():
                return f"/cvmfs/{one} is empty"
        return ""


class Cvmfsexec(Way):
    """FUSE in a user namespace. Two runs from one directory break each other: each slot has a copy."""

    name = "cvmfsexec"
    hides = True
    chats = True

    def lacks(self) -> str:
        why = self.kit.tool("cvmfsexec")[1]
        if why:
            return str(why)
        if not _new_kernel(os.uname().release):
            return f"the kernel is {os.uname().release}, and it takes 4.18"
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse cannot be opened here" if os.path.exists("/dev/fuse") else "there is no /dev/fuse"
        spaces = self.kit.run("unshare", "-rm", "true")
        if not spaces.ok:
            return f"no user namespaces: {spaces.why(self.kit.patience)}"
        place, why = self.kit.cache()
        if not why and re.search(r"\s", place + self.kit.scratch):
            why = f"it cannot live in a path with blanks, and the scratch is {self.kit.scratch}"
        return why

    def _copy(self, slot: str) -> str:
        return f"{self.kit.scratch}/cvmfsexec/{slot}"

    def ready(self, slot: str) -> None:
        copy = self._copy(slot)
        if os.path.isdir(copy):
            return
        program = self.kit.tool("cvmfsexec")[0]
        part = copy + ".part"
        shutil.rmtree(part, ignore_errors=True)
        if os.path.isdir(os.path.dirname(program) + "/dist"):
            program = os.path.dirname(program)  # the command of a distribution, and no file that holds one
        if os.path.isdir(program):
            shutil.copytree(program, part, symlinks=True, ignore=lambda folder, names: _left_behind(folder[len(program) :], names))
        else:
            os.makedirs(part)
            shutil.copy(program, part + "/cvmfsexec")
            os.chmod(part + "/cvmfsexec", 0o700)
            unpacked = self.kit.run(part + "/cvmfsexec", "-v")
            if not unpacked.ok:
                raise OSError(f"cvmfsexec does not unpack itself: {unpacked.why(self.kit.patience)}")
        self._configure(part, slot)
        os.rename(part, copy)

    def reason(self, said: str) -> str:
        for one in self.wanted:
            why = client_said(f"{self._base(self._copy('trial'))}/log/{one}.log")
            if why:
                return f"{one}: {why}"
        return said

    def _base(self, copy: str) -> str:
        return copy + "/.cvmfsexec" if os.path.isdir(copy + "/.cvmfsexec/dist") else copy

    def _configure(self, copy: str, slot: str) -> None:
        etc = self._base(copy) + "/dist/etc/cvmfs"
        os.makedirs(etc + "/config.d", exist_ok=True)
        told = self.kit.told
        alien = told.get("alien_cache")
        # It takes paths that begin with /var, /etc or /cvmfs to be in the distribution; not those that begin with two slashes.
        lines = ["", f'CVMFS_CACHE_BASE="/{self.kit.cache()[0]}/{slot}"']
        if told.get("proxies") or not os.path.exists(etc + "/default.local"):
            lines.append(f'CVMFS_HTTP_PROXY="{told.get("proxies") or "DIRECT"}"')
        if alien:
            lines += [f'CVMFS_ALIEN_CACHE="/{alien}"', "CVMFS_SHARED_CACHE=no", "CVMFS_QUOTA_LIMIT=-1"]
        elif self.kit.quota:
            lines.append(f"CVMFS_QUOTA_LIMIT={self.kit.quota}")
        # What the distribution says stays (how proxies are found, say): the last word counts.
        with open(etc + "/default.local", "a") as stream:
            stream.write("\n".join(lines) + "\n")
        for name, options in self.kit.repositories().items():
            lines = [f'CVMFS_SERVER_URL="{options["url"]}"'] if "url" in options else []
            if "pubkey" in options:
                # Paths below /etc, /var and /cvmfs are taken to be in the distribution: so the keys are.
                os.makedirs(f"{etc}/keys/icp-{name}", exist_ok=True)
                for number, key in enumerate(options["pubkey"].split(":")):
                    shutil.copy(key, f"{etc}/keys/icp-{name}/{number}.pub")
                lines.append(f'CVMFS_KEYS_DIR="/etc/cvmfs/keys/icp-{name}"')
            with open(f"{etc}/config.d/{name}.local", "w") as stream:
                stream.write("".join(line + "\n" for line in lines))

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        base = self._base(self._copy(step.slot))
        return [base + "/cvmfsexec", "-N", *self.wanted, "--", sys.executable, "-I", "-S", "-c", RESET, *argv]


def _left_behind(folder: str, names: "list[str]") -> "list[str]":
    """What runs of a distribution left in it: caches, sockets, places where something is mounted. A copy begins without."""
    if folder == "":
        return [one for one in names if one in ("mnt", "log")]
    return names if folder in ("/dist/cvmfs", "/dist/var/lib/cvmfs", "/dist/var/run/cvmfs") else []


def _new_kernel(release: str) -> bool:
    numbers = [int(part) for part in re.findall(r"[0-9]+", release)[:4]]
    return numbers >= [4, 18] or (numbers[:3] == [3, 10, 0] and numbers[3:] >= [1127])


class Bwrap(Way):
    """A copy, in a mount namespace made by bubblewrap."""

    name = "bwrap"
    hides = True
    reads_copies = True

    def lacks(self) -> str:
        if self.kit.program("bwrap") is None:
            return "there is no bwrap"
        tried = self.kit.run(*self._options(), "true")
        return "" if tried.ok else tried.why(self.kit.patience)

    def _options(self) -> "list[str]":
        """Everything of the node as it is, and the copies: ``/cvmfs`` need not exist, so the root is a new one."""
        options = [str(self.kit.program("bwrap"))]
        for name in sorted(os.listdir("/")):
            path = "/" + name
            if name == "cvmfs":
                continue
            if os.path.islink(path):
                options += ["--symlink", os.readlink(path), path]
            else:
                options += ["--dev-bind-try", path, path]
        for source, target in self.copies:
            options += ["--ro-bind", source, target]
        return options

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        return [*self._options(), "--chdir", step.work, "--", *argv]


class Proot(Way):
    """A copy, by tracing system calls: no namespaces are needed."""

    name = "proot"
    hides = True
    # Old ones wait for all that they trace, also for what the command left behind.
    last = (
        "t=$(sed -n 's/^TracerPid:[[:blank:]]*//p' /proc/self/status); "
        'for p in $(grep -l "^TracerPid:[[:blank:]]*$t\\$" /proc/[0-9]*/status 2>/dev/null); do '
        'p=${p#/proc/}; p=${p%/status}; [ "$p" = $$ ] || [ "$t" = 0 ] || kill -9 "$p" 2>/dev/null; done; '
    )
    reads_copies = True

    def lacks(self) -> str:
        if self.kit.program("proot") is None:
            return "there is no proot"
        if os.access("/", os.W_OK):
            # It makes the places that it binds where it can, and takes them away when it ends, from under another one too.
            return "/ can be written here (by root), and it would make /cvmfs on the node itself"
        tried = self.kit.run(*self._options(), "/bin/true", PROOT_TMP_DIR=self.kit.scratch)
        return "" if tried.ok else tried.why(self.kit.patience)

    def _options(self) -> "list[str]":
        options = [str(self.kit.program("proot"))]
        for source, target in self.copies:
            options += ["-b", f"{source}:{target}"]
        return options

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        step.env["PROOT_TMP_DIR"] = self.kit.scratch
        return [*self._options(), "-w", step.work, *argv]


class AsItIs(Way):
    """A tarball where it was unpacked, or nothing but what the node has: there is no ``/cvmfs``."""

    name = "tarball"


WAYS: "tuple[type[Way], ...]" = (Mounted, Cvmfsexec, Parrot, Bwrap, Proot, ParrotCopy, AsItIs)
"""In the order in which they are tried."""
