"""Inputs and outputs by URL: tables -> definitions, and those -> what a card holds of them (hides what makes a URL)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from icp.dsl.check import Mistakes
from icp.dsl.expressions import Compiled, Compiler, Place
from icp.dsl.locator import KeyPath
from icp.dsl.names import unsafe
from icp.dsl.syntax import START, BadExpression
from icp.dsl.values import Scope, show
from icp.model.definition import TaskDef, UrlInput

__all__ = ["Fetches", "arrives_as", "check_output_url", "digest_of", "good_url", "is_url", "output_url", "size_of", "url_inputs"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}\Z"), "md5": re.compile(r"[0-9a-f]{32}\Z")}
_OF_A_SITE = re.compile(r"<(?:system|attr) [^<>]*>")
"""What only a site knows, where a job is shown for no site in particular; no URL can be so."""
_SHAPE = "scheme://..."


def is_url(value: Any) -> bool:
    """Whether an entry of ``inputs`` is one by URL: a table, or text that begins as one."""
    return not isinstance(value, str) or bool(_URL.match(value))


def wrong(url: str) -> str:
    """Why this is no URL that can be fetched or stored; empty if it is one."""
    if not _URL.match(url):
        return f"{url[:100]!r} does not begin with {_SHAPE}"
    if any(not "!" <= letter <= "~" for letter in url):
        return f"{url[:100]!r} holds a blank or another character that a URL writes with %"
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError as error:
        return f"{url[:100]!r} is no URL: {error}"
    if password is not None:
        return f"the URL of {parts.hostname} holds a password, which everybody would see"
    if not parts.path.strip("/"):
        return f"{url[:100]!r} names no file"
    return ""


def url_inputs(table: Mapping[str, Any], path: KeyPath, mistakes: Mistakes) -> Iterable[tuple[int, UrlInput]]:
    """(place in ``inputs``, definition) of those by URL; what can be told wrong without a job is a mistake."""
    for index, value in enumerate(table.get("inputs", ())):
        if value is None or not is_url(value):
            continue
        about: Mapping[str, Any] = {"url": value} if isinstance(value, str) else value
        here = (*path, "inputs", index)
        if "url" not in about:
            continue  # said by the schema
        one = UrlInput(
            about["url"], about.get("name", ""), about.get("sha256", ""), about.get("md5", ""), str(about.get("size", ""))
        )
        if not _expression(one.url):
            if why := wrong(one.url):
                mistakes.add((*here, "url"), why, "the URL of a file")
            elif not one.name and not arrives_as(one):
                mistakes.add((*here, "url"), f"{one.url[:100]!r} does not end with a file's name", "name = ... beside it")
        if one.name and not _expression(one.name) and (unsafe_because := unsafe(one.name)):
            mistakes.add((*here, "name"), f"the input's name {one.name[:80]!r} {unsafe_because}", "a file below the task's directory")
        yield index, one


def check_output_url(url: str, glob: bool, here: KeyPath, mistakes: Mistakes) -> None:
    """An output's URL, as far as it can be judged without a job."""
    if not url:
        return
    if not _expression(url) and (why := wrong(url)):
        mistakes.add(here, why, "the URL of a file, or of a folder with / behind it")
    if glob and not url.endswith("/"):
        mistakes.add(here, "a pattern may be several files, and this is one URL", "a URL that ends with /")


def _expression(text: str) -> bool:
    return any(not match.group(1) for match in START.finditer(text))


def arrives_as(one: UrlInput) -> str:
    """The name of an input, expressions and all."""
    return one.name or unquote(one.url.partition("?")[0].rpartition("/")[2])


def good_url(value: Any, expression: str) -> str:
    """What an expression gave, if that is a URL; BadExpression."""
    url = show(value, expression)
    if not _OF_A_SITE.search(url) and (why := wrong(url)):
        raise BadExpression(expression, why)
    return url


def output_url(compiled: Compiled | None, scope: Scope) -> str | None:
    """Where an output is stored, if it has a URL."""
    return None if compiled is None else good_url(compiled.run(scope), compiled.text)


@dataclass(frozen=True, slots=True)
class _Fetch:
    url: Compiled
    name: Compiled | None
    sha256: Compiled | None
    md5: Compiled | None
    size: Compiled | None


class Fetches:
    """The inputs by URL of one task, compiled once."""

    def __init__(self, task: TaskDef, compiler: Compiler) -> None:
        """BadExpression where one cannot be compiled."""
        self._task = task.name

        def compiled(text: str, index: int, key: str) -> Compiled | None:
            return compiler.compile(text, Place(task.name, f"fetches.{index}.{key}")) if text else None

        self._all = []
        for index, one in enumerate(task.fetches):
            url = compiler.compile(one.url, Place(task.name, f"fetches.{index}.url"))
            rest = [compiled(getattr(one, key), index, key) for key in ("name", "sha256", "md5", "size")]
            self._all.append(_Fetch(url, *rest))

    def render(self, scope: Scope) -> list[dict[str, Any]]:
        """Entries of a card's ``in``; BadExpression where a value is none that fits."""
        entries = [self._entry(one, scope) for one in self._all]
        names = [entry["name"] for entry in entries]
        for one, name in zip(self._all, names, strict=True):
            if names.count(name) > 1:
                raise BadExpression((one.name or one.url).text, f"two inputs arrive as {name!r}")
        return entries

    def _entry(self, one: _Fetch, scope: Scope) -> dict[str, Any]:
        url = good_url(one.url.run(scope), one.url.text)
        name = arrives_as(UrlInput(url)) if one.name is None else show(one.name.run(scope), one.name.text)
        if why := unsafe(name):
            raise BadExpression((one.name or one.url).text, f"the input's name {name[:80]!r} {why}")
        entry: dict[str, Any] = {"name": name, "from": ["url", url], "sha256": None}
        for key, compiled in (("sha256", one.sha256), ("md5", one.md5)):
            if compiled is not None:
                entry[key] = digest_of(key, compiled.run(scope), compiled.text)
        if one.size is not None:
            entry["size"] = size_of(one.size.run(scope), one.size.text)
        return entry


def digest_of(kind: str, value: Any, expression: str) -> str:
    """A checksum that an expression gave; BadExpression."""
    text = show(value, expression).lower()
    if not _DIGESTS[kind].match(text):
        raise BadExpression(expression, f"{text[:80]!r} is no {kind}")
    return text


def size_of(value: Any, expression: str) -> int:
    """A number of bytes that an expression gave; BadExpression."""
    text = show(value, expression)
    if not text.isdecimal():
        raise BadExpression(expression, f"{text[:40]!r} is no number of bytes")
    return int(text)

