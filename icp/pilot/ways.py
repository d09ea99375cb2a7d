"""The ways in which a task is given ``/cvmfs``, or what stands for it, one class each (hides their options and environments).

A new way is one more class, and its place in WAYS. Each is made once for an agent and an environment. A task is wrapped, the
pilot never is: docs/decisions/0013.
"""

import os
import re
import shutil
import sys

from . import trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["WAYS", "Kit", "Step", "Way"]

RESET = (
    "import os,signal,sys\nfor n in (1,2,3,13,15,25): signal.signal(n,signal.SIG_DFL)\n"
    "os.environ.update(TMPDIR=os.environ.get('ICP_TMP',os.environ.get('TMPDIR','/tmp')))\nos.execvp(sys.argv[1],sys.argv[1:])"
)
"""What cvmfsexec starts inherits signals ignored, which POSIX sh cannot mend, and a TMPDIR that is cvmfsexec's own."""
_OPTIONS = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(.+)\Z")


class Kit:
    """What ways are made of: the site's configuration, the agent's scratch, and what was found out about the node."""

    def __init__(self, told: "dict[str, Any]", scratch: str, env: "dict[str, str]", gpus: bool, tool: "Any") -> None:
        """``tool(name)`` is the path of a program that the site's configuration gives, or a sentence why there is none."""
        self.told, self.scratch, self.env, self.gpus, self.tool = told, scratch, env, gpus, tool
        self.patience = float(told.get("patience") or 60)
        self._cache = ""

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
            self.told["quota"] = size
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


class Step:
    """What is started: its variables, its directory, and the name of the slot that is its own meanwhile."""

    def __init__(self, env: "dict[str, str]", work: str, slot: str) -> None:
        self.env, self.work, self.slot = env, work, slot


class Way:
    """One way, for one environment: ``wanted`` are its repositories, ``copies`` [(a directory here, where it shall appear)]."""

    name = ""
    hides = False
    """Whether what it starts ends with another exit code than the command (proot says 0 of one that was killed)."""
    last = ""
    """What sh does when the command has ended, so that its wrapper ends too."""
    reads_copies = False
    """Whether it shows copies (a tree of the site's, an unpacked tarball) rather than the repositories themselves."""

    def __init__(self, kit: Kit, wanted: "list[str]", copies: "list[tuple[str, str]]") -> None:
        self.kit, self.wanted, self.copies = kit, wanted, copies

    def lacks(self) -> str:
        """What is missing for it on this node, found by trying; "" where nothing is."""
        return ""

    def ready(self, slot: str) -> None:
        """Prepares the slot of this name; may take long. OSError."""

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        """What to start in place of ``argv``; adds what it wants to the step's variables."""
        del step
        return argv


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


class Parrot(Way):
    """System calls are redirected. It may be there and broken: with a newer C library than its own it starts nothing."""

    name = "parrot"
    hides = True

    def lacks(self) -> str:
        why = self._starts()
        if why:
            return why
        driver = self._tried("--check-driver", "cvmfs")
        if not driver.ok:
            return f"parrot_run has no driver for cvmfs: {driver.why(self.kit.patience)}"
        return self.kit.cache()[1]

    def _program(self) -> str:
        return str(self.kit.tool("parrot_run")[0])

    def _starts(self) -> str:
        why = self.kit.tool("parrot_run")[1]
        if why:
            return str(why)
        started = self._tried("/bin/true")
        return "" if started.ok else f"parrot_run is broken here: {started.why(self.kit.patience)}"

    def _tried(self, *words: str) -> trial.Outcome:
        # /tmp, where it would keep what it needs, may be full
        folder = self.kit.scratch + "/parrot"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            pass  # It says so.
        return self.kit.run(self._program(), *words, PARROT_TEMP_DIR=folder)

    def _folder(self, slot: str) -> str:
        """With a quota Parrot has no cache that several can use at once: the second one would wait for the first one's end."""
        place = self.kit.cache()[0]
        return f"{place}/{slot}" if self._quota() else place

    def _quota(self) -> int:
        """MB; a cache that all nodes share has none."""
        return 0 if self.kit.told.get("alien_cache") else self.kit.quota

    def ready(self, slot: str) -> None:
        os.makedirs(self._folder(slot), mode=0o700, exist_ok=True)

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        told, own = self.kit.told, step.env.get("HTTP_PROXY")
        step.env["PARROT_TEMP_DIR"] = self._folder(step.slot)
        proxies = str(told.get("proxies") or own or "DIRECT")
        # Old clients refuse a plain DIRECT.
        step.env["HTTP_PROXY"] = "DIRECT;" if proxies == "DIRECT" else proxies
        quota = [f"quota_limit={self._quota()}"] if self._quota() else []
        repositories = [
            ":".join([name, ",".join([*(f"{key}={value}" for key, value in options.items()), *quota])])
            for name, options in self.kit.repositories().items()
        ]
        if repositories or quota:
            step.env["PARROT_CVMFS_REPO"] = " ".join([":".join(["<default-repositories>", *quota]), *repositories])
        step.env["PARROT_ALLOW_SWITCHING_CVMFS_REPOSITORIES"] = "yes"
        if told.get("alien_cache"):
            step.env["PARROT_CVMFS_ALIEN_CACHE"] = str(told["alien_cache"])
        # A list of proxies for CVMFS is nothing that programs of the task should take for theirs.
        back = ["unset HTTP_PROXY", "sh"] if own is None else ["HTTP_PROXY=$0; export HTTP_PROXY", own]
        return [self._program(), "/bin/sh", "-c", back[0] + '; exec "$@"', back[1], *argv]


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


class ParrotCopy(Parrot):
    """A copy, by Parrot: its driver of CVMFS is not needed."""

    name = "parrot-copy"
    reads_copies = True

    def lacks(self) -> str:
        return self._starts()

    def _folder(self, slot: str) -> str:
        del slot  # nothing is kept there that two could want at once
        return f"{self.kit.scratch}/parrot"

    def wrap(self, argv: "list[str]", step: Step) -> "list[str]":
        step.env["PARROT_TEMP_DIR"] = self._folder(step.slot)
        binds = [word for source, target in self.copies for word in ("-M", f"{target}={source}")]
        return [self._program(), "--disable-service", "cvmfs", *binds, *argv]


class AsItIs(Way):
    """A tarball where it was unpacked, or nothing but what the node has: there is no ``/cvmfs``."""

    name = "tarball"


WAYS: "tuple[type[Way], ...]" = (Mounted, Cvmfsexec, Parrot, Bwrap, Proot, ParrotCopy, AsItIs)
"""In the order in which they are tried."""
