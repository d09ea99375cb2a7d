"""Tables [software.NAME] -> environments, and which task runs in which (hides what makes one useless)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk
from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.locator import KeyPath
from icp.dsl.syntax import nearest
from icp.dsl.tasks import Draft
from icp.dsl.values import Scope, show
from icp.model.definition import Software, Steering, Tarball

__all__ = ["Environments", "build_software", "check_used", "is_url", "texts_of"]

_SCHEMES = ("http", "https", "file")


def is_url(text: str) -> bool:
    """Whether it says by itself where it is, and is no path beside the steering file."""
    return "://" in text


def build_software(tables: Mapping[str, Any], mistakes: Mistakes, disk: Disk | None) -> dict[str, Software]:
    """The environments of a file, by name."""
    return {name: _software(name, table or {}, mistakes, disk) for name, table in tables.items()}


def _software(name: str, table: Mapping[str, Any], mistakes: Mistakes, disk: Disk | None) -> Software:
    path = ("software", name)
    if not table:
        mistakes.warn(path, "it has nothing in it, and is what each node has: say where it is, with cvmfs, shell, setup, env, tarball or container")
    tarballs = []
    for index, one in enumerate(table.get("tarball", ())):
        if not one or not {"url", "sha256"} <= one.keys():
            continue
        url = one["url"]
        here = (*path, "tarball", index, "url")
        if is_url(url) and url.partition("://")[0] not in _SCHEMES:
            mistakes.add(here, f"{url[:60]!r} cannot be fetched", "an address with https, http or file, or a path beside the steering file")
        elif disk is not None and not is_url(url) and not disk.is_file(url):
            mistakes.add(here, f"there is no file {url[:80]!r} beside the steering file", "a tarball")
        tarballs.append(Tarball(one.get("platform", "any"), url, one["sha256"]))
    cvmfs = tuple(one for one in table.get("cvmfs", ()) if one is not None)
    env = {key: value for key, value in table.get("env", {}).items() if value is not None}
    return Software(cvmfs, table.get("shell", ""), table.get("setup", ""), env, tuple(tarballs), table.get("container", ""))


def check_used(drafts: list[Draft], software: Mapping[str, Software], mistakes: Mistakes) -> None:
    """Every environment that a task or a tray names must be there."""
    for draft in drafts:
        named = [(draft.task.software, (*draft.path, "software"))]
        named += [(tray.software, (*draft.path, "tray", index, "software")) for index, tray in enumerate(draft.task.trays)]
        for name, path in named:
            if name is not None and name not in software:
                meant = nearest(name, software)
                have = ", ".join(software)
                expected = "" if meant else f"one of {have}" if have else f"a table [software.{name}]"
                mistakes.add(path, f"there is no software {name!r}", expected, meant)


def _mark(one: Software) -> str:
    """The same for the same environment, in all datasets; before its expressions are evaluated."""
    tarballs = [[tarball.platform, tarball.sha256] for tarball in one.tarballs]
    whole = [list(one.cvmfs), tarballs, [[list(key), text] for key, text in texts_of(one)]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def texts_of(one: Software) -> Iterator[tuple[KeyPath, str]]:
    """Every text of an environment that may hold expressions, and its key."""
    for key in ("shell", "setup", "container"):
        if getattr(one, key):
            yield (key,), getattr(one, key)
    for name, value in one.env.items():
        yield ("env", name), value


class Environments:
    """The environments that one task runs in, compiled once: what a card says of them."""

    def __init__(self, steering: Steering, names: list[str | None], compiler: Compiler, task: str) -> None:
        """BadExpression."""
        self._compiled: dict[str, list[tuple[KeyPath, Compiled]]] = {}
        self._software = steering.software
        for name in names:
            if name is not None and name in steering.software:
                self._compiled[name] = [
                    (key, compiler.compile(text, Place(task, ".".join(("software", name, *map(str, key)))))) for key, text in texts_of(steering.software[name])
                ]
        self.marks = tuple(sorted(_mark(steering.software[name]) for name in self._compiled))
        self._same: dict[str, Any] | None = None
        if all(compiled.constant for found in self._compiled.values() for _, compiled in found):
            self._same = self._render(None)

    def render(self, scope: Scope) -> dict[str, Any]:
        """{name: what a card holds of it}; BadExpression."""
        return self._same if self._same is not None else self._render(scope)

    def _render(self, scope: Scope | None) -> dict[str, Any]:
        rendered: dict[str, Any] = {}
        for name, found in self._compiled.items():
            one = self._software[name]
            body: dict[str, Any] = {}
            if one.cvmfs:
                body["cvmfs"] = list(one.cvmfs)
            if one.tarballs:
                body["tarballs"] = [[tarball.platform, tarball.sha256] for tarball in one.tarballs]
            for key, compiled in found:
                text = show(compiled.run(scope), compiled.text)
                if key[0] == "env":
                    body.setdefault("env", {})[str(key[1])] = text
                else:
                    body[str(key[0])] = text
            rendered[name] = body
        return rendered
