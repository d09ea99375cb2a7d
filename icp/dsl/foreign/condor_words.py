"""Arguments, environments and quantities as HTCondor writes them (hides its old and its new quotes; condor_submit(1))."""

from __future__ import annotations

import re

from icp.dsl.foreign.condor_text import Unclear

__all__ = ["amount", "arguments", "environment", "new_words"]


def arguments(text: str) -> list[str]:
    """The words of ``arguments``: in double quotes the new syntax, otherwise the old one. Unclear."""
    text = text.strip()
    if text.startswith('"'):
        if len(text) < 2 or not text.endswith('"'):
            raise Unclear('the new syntax of arguments begins and ends with a double quote (" inside is written "")')
        return new_words(_undoubled(text[1:-1]))
    return old_words(text)


def old_words(text: str) -> list[str]:
    """Blanks part words, ``\\"`` is a double quote, and nothing else means anything."""
    if re.search(r'(?<!\\)"', text):
        raise Unclear('in the old syntax of arguments a double quote is written \\", and the new one begins with a double quote')
    return [word.replace('\\"', '"') for word in re.split(r"[ \t\n]+", text) if word]


def _undoubled(text: str) -> str:
    if '"' in text.replace('""', ""):
        raise Unclear('a double quote inside of double quotes is written ""')
    return text.replace('""', '"')


def new_words(text: str) -> list[str]:
    """The new syntax without its double quotes, as a job's ad has it in Arguments: single quotes group, ``''`` in them is one."""
    words: list[str] = []
    word: list[str] | None = None
    at, quoted = 0, False
    while at < len(text):
        letter = text[at]
        if quoted and letter == "'" and text[at + 1 : at + 2] == "'":
            word = [*(word or []), "'"]
            at += 1
        elif letter == "'":
            quoted, word = not quoted, word or []
        elif letter in " \t\n" and not quoted:
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = word if word is not None else []
            word.append(letter)
        at += 1
    if quoted:
        raise Unclear("a single quote is not closed")
    return [*words, "".join(word)] if word is not None else words


def environment(text: str) -> list[tuple[str, str]]:
    """(variable, value) of ``environment``, in the new syntax (double quotes) or the old one (semicolons). Unclear."""
    text = text.strip()
    if text.startswith('"'):
        if len(text) < 2 or not text.endswith('"'):
            raise Unclear('the new syntax of environment begins and ends with a double quote (" inside is written "")')
        return pairs(new_words(_undoubled(text[1:-1])))
    return pairs([one.strip() for one in text.split(";") if one.strip()])


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """``NAME=value`` as (NAME, value)."""
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.match(r"[A-Za-z_]\w*\Z", name):
            raise Unclear(f"{word[:60]!r} is no NAME=VALUE")
        found.append((name, value))
    return found


_AMOUNT = re.compile(r'"?\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*"?\Z', re.IGNORECASE)


def amount(text: str, unit: str) -> str:
    """A size of a steering file; HTCondor's K, M, G are powers of 1024, and a bare number is of ``unit``. Unclear."""
    match = _AMOUNT.match(text.strip())
    if match is None:
        raise Unclear(f"{text[:60]!r} is no number with K, M, G or T behind it, and no other expression has a counterpart")
    return f"{match.group(1)} {(match.group(2) or unit).upper()}iB"
