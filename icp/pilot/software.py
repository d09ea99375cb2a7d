"""The environments that tasks run in on this node: a way for each is found once, then each step is wrapped (hides how, and
what was tried in vain).
"""

import errno
import json
import os
import re
import shlex
import threading
import time

from . import endings, platforms, sight, spool, trial
from .archives import unpack
from .disk import remove_tree
from .problem import Problem, Unrun
from .ways import WAYS, Kit, Step, Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .cache import Entry
    from .task import Slot

__all__ = ["Software", "survey"]

FIRST_PAUSE, LAST_PAUSE = 10.0, 300.0
"""Seconds after which an environment that could not be had is tried again: at first, and (twice as many each time) in the end."""

_WHICH = 'p=$(command -v python3 || command -v python) && "$p" -c "import sys; print(sys.version.split()[0])" || echo -'


class Chosen:
    """An environment that is there: how, and what an attempt that uses it really has."""

    def __init__(self, way: Way, about: "dict[str, Any]", home: str, had: "dict[str, Any]") -> None:
        self.way, self.about, self.home, self.had = way, about, home, had


class Software:
    """The environments of one agent. ``prepare`` may take long and is called outside of its loop, everything else in it."""

    def __init__(
        self,
        told: "dict[str, Any] | None",
        scratch: str,
        env: "dict[str, str]",
        lend: "Callable[[str], Entry]",
        tell: "Callable[[dict[str, Any]], Any]" = lambda fact: None,
    ) -> None:
        """``told``: the site's configuration of software; ``env``: the agent's variables; ``lend(sha256)``: shipped
        bytes, verified; ``tell`` gets the facts.
        """
        self._told, self._scratch, self._env, self._lend, self._tell = dict(told or {}), scratch, env, lend, tell
        self._kit = Kit(self._told, scratch, env, False, self._tool)
        self._lock = threading.Lock()
        self._chosen: "dict[str, Chosen]" = {}
        self._refused: "dict[str, tuple[float, float, str]]" = {}
        self._tools: "dict[str, tuple[str, str]]" = {}
        self._gone: "list[list[str]]" = []
        """What should have been shipped, and is not there as it was."""
        self._news: "list[dict[str, Any]]" = []

    # --- before the steps

    def prepare(self, wanted: "dict[str, Any]", slot: str) -> "dict[str, Any]":
        """Makes the environments of an attempt ready for the slot of this name: what it will have, by environment.
        Problem where there is no way, Unrun where that was found a short while ago.
        """
        had = {}
        with self._lock:
            for name, about in sorted(wanted.items()):
                key = json.dumps(about, sort_keys=True)
                chosen = self._chosen.get(key)
                if chosen is None:
                    chosen = self._chosen[key] = self._choose(name, about, key)
                try:
                    chosen.way.ready(slot)
                except OSError as error:
                    raise Problem("software", f"software {name}: {chosen.way.name} cannot be made ready: {error}") from error
                had[name] = chosen.had
        return had

    def report(self) -> None:
        """Tells what was found out."""
        news, self._news = self._news, []
        for fact in news:
            self._tell(fact)

    def _choose(self, name: str, about: "dict[str, Any]", key: str) -> Chosen:
        until, pause, why = self._refused.get(key, (0.0, 0.0, ""))
        if time.time() < until:
            raise Unrun(why)
        vain: "list[list[str]]" = []
        try:
            chosen = self._find(name, about, vain)
        except Problem as error:
            if not error.gone:
                pause = min(2 * pause, LAST_PAUSE) or FIRST_PAUSE
                self._refused[key] = (time.time() + pause, pause, str(error))
            self._news.append({"f": "software", "name": name, "why": str(error)[:2000], "vain": vain})
            raise
        self._refused.pop(key, None)
        self._news.append({"f": "software", "name": name, "had": chosen.had, "vain": vain})
        return chosen

    def refused(self, wanted: "dict[str, Any]") -> float:
        """Until when (Unix time) one of these environments is not to be had here; 0: that is not known of any."""
        return max([self._refused.get(json.dumps(about, sort_keys=True), (0.0,))[0] for about in wanted.values()] or [0.0])

    def _find(self, name: str, about: "dict[str, Any]", vain: "list[list[str]]") -> Chosen:
        wanted = about.get("cvmfs") or []
        unpacked, digest, lacking = "", "", ""
        unpacked_once = False
        for cls in self._ordered(bool(wanted)):
            if (cls.reads_copies or cls.name == "tarball") and not unpacked_once:
                unpacked_once = True
                unpacked, digest, lacking = self._tarball(name, about)
            copies = self._copies(wanted, unpacked) if cls.reads_copies else []
            if cls.reads_copies and not copies:
                vain.append([cls.name, lacking or "there is no copy"])
                continue
            if cls.name == "tarball" and (lacking or (wanted and not unpacked)):
                vain.append([cls.name, lacking or "there is no copy"])
                continue
            way = cls(self._kit, wanted, copies)
            revision, why = self._try(way)
            if why:
                vain.append([cls.name, why])
                continue
            home = (copies[0][1] if cls.reads_copies and digest else unpacked) if unpacked and (cls.reads_copies or cls.name == "tarball") else ""
            had: "dict[str, Any]" = {"way": way.name if wanted or digest else "node", "platform": platforms.here()}
            if revision:
                had["revision"] = revision
            if digest and home:
                had["tarball"] = digest
            chosen = Chosen(way, about, home, had)
            self._enter(name, chosen)
            return chosen
        by_why: "dict[str, list[str]]" = {}
        for one, why in vain:
            by_why.setdefault(why, []).append(one)
        said = "; ".join(f"{', '.join(ways)}: {why}" for why, ways in by_why.items()) or "all ways are forbidden"
        gone, self._gone = self._gone, []
        raise Problem("software", f"software {name}: there is no way to it on {os.uname().nodename} ({said})", gone or None)

    def _ordered(self, wanted: bool) -> "list[type[Way]]":
        """The ways to be tried: as the site orders them, without those that it forbids."""
        by_name = {cls.name: cls for cls in WAYS}
        names = self._told.get("ways") or list(by_name)
        forbidden = self._told.get("forbid") or ()
        if not wanted:
            return [by_name["tarball"]]
        return [by_name[one] for one in names if one in by_name and one not in forbidden]

    def _try(self, way: Way) -> "tuple[dict[str, str], str]":
        """(the revision of each repository that tells one, "") or ({}, why it is of no use)."""
        why = way.lacks()
        if why:
            return {}, why
        if way.name == "tarball":
            return {}, ""
        try:
            way.ready("trial")
        except OSError as error:
            return {}, str(error)
        seen = self._through(way, sight.looking(way.wanted), CUDA_VISIBLE_DEVICES="icp")
        if not seen.ok:
            return {}, way.reason(seen.why(self._kit.patience))
        told, why = sight.seen(seen.out)
        if why:
            return {}, way.reason(why)
        revision = {one: str(told["revision"].get(one) or way.revision(one)) for one in way.wanted}
        return {one: text for one, text in revision.items() if text}, ""

    def _through(self, way: Way, argv: "list[str]", **more: str) -> trial.Outcome:
        folder = self._scratch
        env = dict(self._env, TMPDIR=folder)
        env.update(more)
        return trial.attempt(way.start(argv, Step(env, folder, "trial")), env, self._kit.patience, folder)

    def _enter(self, name: str, chosen: Chosen) -> None:
        """Goes once into the environment, as a task would: Problem where its shell or setup does not let it."""
        folder = self._scratch
        env = dict(self._env, TMPDIR=folder)
        try:
            argv = self._inside(chosen, ["/bin/sh", "-c", _WHICH], env, folder, [])
            chosen.way.ready("trial")
            tried = trial.attempt(chosen.way.start(argv, Step(env, folder, "trial")), env, self._kit.patience, folder)
        except OSError as error:
            raise Problem("software", f"software {name}: {error}") from error
        if not tried.ok:
            why = tried.why(self._kit.patience)
            raise Problem("software", f"software {name}: its environment cannot be entered ({chosen.had['way']}): {why}")
        version = tried.out.strip().splitlines()[-1:] or ["-"]
        if version[0] != "-":
            chosen.had["python"] = version[0][:40]

    # --- a step

    def wrap(self, step: "dict[str, Any]", spec: "dict[str, Any]", argv: "list[str]", env: "dict[str, str]", slot: "Slot") -> "list[str]":
        """What to start for a step in place of ``argv``; its variables are added to ``env``. A step without software is left alone."""
        name = step.get("software")
        if name is None:
            return argv
        chosen = self._of(name, spec)
        inner = self._inside(chosen, argv, env, slot.work, [self._scratch])
        if chosen.way.hides:
            env["ICP_CODE"] = slot.folder + "/code"
            remove_tree(env["ICP_CODE"])
            inner = endings.marked(chosen.way, inner)
        if chosen.way.chats:
            env["ICP_SAID"] = slot.folder + "/said"
        return chosen.way.start(inner, Step(env, slot.work, os.path.basename(slot.folder)))

    def ended(self, step: "dict[str, Any]", spec: "dict[str, Any]", code: int, usage: "Any", slot: "Slot") -> "tuple[int, float, int]":
        """(exit code, -n: by signal n; seconds of processor time; bytes of memory) of a step as they would be without what it was wrapped in. Problem: what
        it was wrapped in ended, and nobody saw the command's end.
        """
        name, cpu, rss = step.get("software"), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        if name is None or not self._of(name, spec).way.hides:
            return code, cpu, rss
        try:
            seen, its_cpu, its_rss = endings.seen(slot.folder + "/code")
        except (OSError, ValueError):
            if code < 0:
                return code, cpu, rss
            way = self._of(name, spec).way
            said = endings.said(slot.folder + "/said") if way.chats else ""
            why = f"exit code {code}" + (f" ({said})" if said else "")
            raise Problem("software", f"software {name}: {way.name} ended with {why}, and the command's own end was not seen") from None
        return seen, cpu if its_cpu is None else its_cpu, max(rss, its_rss or 0)

    def _of(self, name: str, spec: "dict[str, Any]") -> Chosen:
        return self._chosen[json.dumps(spec["software"][name], sort_keys=True)]

    def _inside(self, chosen: Chosen, argv: "list[str]", env: "dict[str, str]", work: str, binds: "list[str]") -> "list[str]":
        """The environment itself, from inside: shell, setup, container."""
        about, home = chosen.about, chosen.home
        if home:
            env["ICP_SOFTWARE"] = home
            env["PATH"] = f"{home}/bin:{env.get('PATH', os.defpath)}"
        for key, value in (about.get("env") or {}).items():
            env[key] = _expanded(value, env)
        if about.get("shell"):
            argv = [*_words(about["shell"], env, home), *argv]
        if about.get("setup"):
            words = _words(about["setup"], env, home)
            # Nothing of the command's may reach what is sourced: it would be taken for its own arguments.
            text = f"set -- {shlex_join(words[1:])}\n. {shlex.quote(words[0])} || exit\nset --\nexec {shlex_join(argv)}\n"
            argv = [self._kit.program("bash") or "/bin/sh", "-c", text]
        if about.get("container"):
            argv = [*self._container(chosen, _expanded(about["container"], env), work, binds, env), *argv]
        return argv

    def _container(self, chosen: Chosen, image: str, work: str, binds: "list[str]", env: "dict[str, str]") -> "list[str]":
        program = self._kit.program("apptainer") or self._kit.program("singularity")
        if program is None:
            raise OSError("there is neither apptainer nor singularity for its container")
        places = [work, *binds, *(["/cvmfs"] if chosen.way.wanted and chosen.way.name != "tarball" else []), *([chosen.home] if chosen.home else [])]
        wrong = [one for one in places if re.search("[:,]", one)]
        if wrong:
            raise OSError(f"a container cannot be given {wrong[0]}: there is a colon or a comma in the path")
        if chosen.home:
            # it puts a PATH of the image's in place of this one
            env["APPTAINERENV_PREPEND_PATH"] = env["SINGULARITYENV_PREPEND_PATH"] = f"{chosen.home}/bin"
        words = [word for place in dict.fromkeys(places) for word in ("-B", place)]
        return [program, "exec", *words, *(["--nv"] if env.get("CUDA_VISIBLE_DEVICES") else []), "--pwd", work, image]

    # --- bytes that were shipped

    def _tool(self, name: str) -> "tuple[str, str]":
        """(path of cvmfsexec or parrot_run, "") or ("", why there is none)."""
        if name in self._tools:
            return self._tools[name]
        missing = len(self._gone)
        found = self._find_tool(name)
        if len(self._gone) == missing:
            self._tools[name] = found
        return found

    def _find_tool(self, name: str) -> "tuple[str, str]":
        where = self._told.get(name)
        if not where:
            own = self._kit.program(name)
            return (own, "") if own else ("", f"there is no {name}, and site.NAME.software.{name} names none")
        if isinstance(where, str):
            return (where, "") if os.path.exists(where) else ("", f"there is no {where}")
        digest = where["sha256"]
        try:
            with self._lend(digest) as entry:
                return self._unpacked_tool(name, entry, f"{self._scratch}/tools/{digest[:16]}")
        except Problem as problem:
            self._gone += problem.gone or []
            return "", f"the {name} that was shipped cannot be used: {problem}"
        except (OSError, ValueError, EOFError) as error:
            return "", f"the {name} that was shipped cannot be used: {error}"

    def _unpacked_tool(self, name: str, entry: "Entry", target: str) -> "tuple[str, str]":
        import shutil
        import tarfile

        remove_tree(target)
        os.makedirs(target, mode=0o700)
        if tarfile.is_tarfile(entry.path):
            unpack(entry.path, target, entry.still)
            for folder, _, names in os.walk(target):
                if name in names:
                    return f"{folder}/{name}" if name != "cvmfsexec" else folder, ""
            return "", f"there is no {name} in the archive that was shipped"
        shutil.copyfile(entry.path, f"{target}/{name}")
        os.chmod(f"{target}/{name}", 0o700)
        return f"{target}/{name}", ""

    def _copies(self, wanted: "list[str]", unpacked: str) -> "list[tuple[str, str]]":
        """Directories here that stand for the repositories, and where they shall appear."""
        for base in (str(self._told.get("tree") or ""), unpacked):
            if base:
                found = [(f"{base}/{one}", f"/cvmfs/{one}") for one in wanted]
                if all(self._kit.run("test", "-d", source).ok for source, _ in found):
                    return found
        return [(unpacked, f"/cvmfs/{wanted[0]}")] if unpacked and len(wanted) == 1 else []

    def _tarball(self, name: str, about: "dict[str, Any]") -> "tuple[str, str, str]":
        """(where the tarball for this node is unpacked, its sha256, why there is none)."""
        offered = dict(about.get("tarballs") or ())
        if not offered:
            return "", "", ""
        platform = platforms.best(offered, platforms.here())
        if platform is None:
            return "", "", f"none of its tarballs ({', '.join(sorted(offered))}) is for {platforms.here()}"
        digest = spool.check_digest(offered[platform])
        target = f"{self._scratch}/packs/software-{digest}"
        if not os.path.isdir(target):
            try:
                with self._lend(digest) as entry:
                    os.makedirs(target + ".part", mode=0o700)
                    unpack(entry.path, target + ".part", entry.still)
                os.rename(target + ".part", target)
            except Problem as problem:
                raise Problem("software", f"software {name}: the tarball for {platform} cannot be used: {problem}", problem.gone) from problem
            except (OSError, ValueError, EOFError) as error:
                remove_tree(target + ".part")
                # its own place is there: so it is the tarball that is not
                gone = [["cache", digest]] if isinstance(error, FileNotFoundError) and os.path.isdir(self._scratch) else None
                why = getattr(error, "strerror", None) or str(error)
                raise Problem("software", f"software {name}: the tarball for {platform} ({digest[:16]}) cannot be unpacked: {why}", gone) from error
        inner = os.listdir(target)
        if len(inner) == 1 and not about.get("cvmfs") and os.path.isdir(f"{target}/{inner[0]}") and not os.path.islink(f"{target}/{inner[0]}"):
            return f"{target}/{inner[0]}", digest, ""
        return target, digest, ""

    def offers(self, later: "list[str]", whole: bool) -> "dict[str, Any]":
        """{"ways": [[way, what it lacks or ""] of each that the site allows], "shows": {way: what it showed of the site's repositories}},
        the latter where it is tried as a ``whole``; programs in ``later`` are shipped, and not here yet.
        """
        for tool in later:
            self._tools[tool] = ("", f"{tool} is shipped with the first pilot, and was not tried")
        repositories, ways, shows = sorted(self._kit.repositories()), [], {}
        for cls in self._ordered(True):
            copies = self._copies(repositories, "") if cls.reads_copies and repositories else []
            way = cls(self._kit, repositories, copies)
            if whole and repositories and (copies if cls.reads_copies else cls.name != "tarball"):
                revision, why = self._try(way)
                if not why:
                    shows[cls.name] = ", ".join(one + (f" (revision {revision[one][:12]})" if one in revision else "") for one in repositories)
            else:
                why = way.lacks()
            ways.append([cls.name, why])
        return {"ways": ways, "shows": shows}

    def close(self) -> None:
        """Removes what does not lie in the agent's scratch."""
        self._kit.close()


def survey(told: "dict[str, Any]", whole: bool, patience: float = 10.0) -> "dict[str, Any]":
    """What this node could give, for a check of its site: {"platform", "ways", "shows"}, as ``Software.offers`` says; each way has so many
    seconds for each thing that it tries.
    """
    import tempfile

    told = dict(told, patience=min(float(told.get("patience") or patience), patience))
    later = [tool for tool in ("cvmfsexec", "parrot_run") if isinstance(told.get(tool), dict)]
    scratch = tempfile.mkdtemp(prefix="icp-check-")
    found = Software(told, scratch, dict(os.environ), _nothing)
    try:
        return dict(found.offers(later, whole), platform=platforms.here())
    finally:
        found.close()
        remove_tree(scratch)


def _nothing(sha256: str) -> "Entry":
    raise FileNotFoundError(errno.ENOENT, "nothing is shipped for a check", sha256)


def shlex_join(words: "list[str]") -> str:
    return " ".join(shlex.quote(one) for one in words)


def _expanded(text: str, env: "dict[str, str]") -> str:
    """``$NAME`` and ``${NAME}`` replaced; what is not known stays as it is."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: env.get(match.group(1) or match.group(2), match.group(0)), text)


def _words(text: str, env: "dict[str, str]", home: str) -> "list[str]":
    """A command line of the environment; a relative path with a slash is below the tarball."""
    words = [_expanded(one, env) for one in shlex.split(text)]
    if home and words and not words[0].startswith("/") and os.path.exists(f"{home}/{words[0]}"):
        words[0] = f"{home}/{words[0]}"
    return words
