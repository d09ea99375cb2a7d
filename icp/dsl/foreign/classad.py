"""The part of ClassAd expressions that reduces to comparisons of attributes (hides its operators)."""

from __future__ import annotations

import re

from icp.dsl.foreign.condor_text import Unclear

__all__ = ["requirements"]

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>\d+(?:\.\d+)?(?![\w.]))|(?P<op>=\?=|=!=|==|!=|<=|>=|<|>|&&|\|\||!|\(|\))'
    r"|(?P<word>[A-Za-z_][\w.]*)(?P<call>\s*\()?)"
)
_OPERATORS = {"=?=": "==", "=!=": "!=", "&&": "and", "||": "or", "!": "not"}
_ASKED = {
    "memory": "request_memory", "totalmemory": "request_memory", "cpus": "request_cpus", "totalcpus": "request_cpus",
    "disk": "request_disk", "totaldisk": "request_disk", "gpus": "request_gpus",
}  # fmt: skip


def requirements(text: str) -> tuple[str, tuple[str, ...]]:
    """(``requirements`` of a steering file, the attributes that it asks for). Unclear names what has no counterpart."""
    out: list[str] = []
    names: list[str] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unclear(f"{text[at : at + 20].strip()!r} is not understood: only attributes that are compared with constants, and && || ! ( ), are")
        at = match.end()
        if match["call"]:
            raise Unclear(f"the function {match['word']}() has no counterpart; only attributes that are compared with constants are understood")
        if match["word"]:
            out.append(_word(match["word"], names))
        elif match["op"]:
            out.append(_OPERATORS.get(match["op"], match["op"]))
        else:
            out.append(match["text"] or match["number"])
    return " ".join(out).replace("( ", "(").replace(" )", ")"), tuple(dict.fromkeys(names))


def _word(word: str, names: list[str]) -> str:
    low = word.lower()
    if low in ("true", "false"):
        return low
    if low in ("undefined", "error"):
        raise Unclear(f"{word} has no counterpart: a comparison with an attribute that nobody knows is false")
    scope, dot, name = word.partition(".")
    if not dot:
        name = word
    elif scope.lower() != "target" or "." in name:
        raise Unclear(f"{word} has no counterpart: only attributes of the site can be asked for")
    if name.lower() in _ASKED:
        raise Unclear(f"{word} has no counterpart: {_ASKED[name.lower()]} says what a job needs")
    names.append(name)
    return f"$attr({name})"
