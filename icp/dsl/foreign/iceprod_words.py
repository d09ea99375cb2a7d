"""IceProd's expressions as ours: ``$steering(x)``, ``$(job)``, ``$sprintf("%d",x)``, ``$list(x)[2]`` (hides both grammars)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from icp.dsl.arithmetic import NUMBER
from icp.dsl.foreign.iceprod_grammar import arithmetic, closing, is_number, parses
from icp.dsl.syntax import NAMES

__all__ = ["Expr", "Names", "Piece", "Translator", "joined", "reads_as", "written"]

_START = re.compile(r"\$([^$()\[\]]*)\(")
_OURS = re.compile(r"\$(?=(?:" + "|".join(NAMES) + r")\()")
_CONVERSION = re.compile(r"%[#0\- +]?[0-9]*\.?[0-9]*[csridufegExXo]")
_HELD = re.compile("\0(\\d+)\0")
_UNSAFE = ("import", "open", "for", "while", "def", "class", "lambda")
_MOST = 30
"""Members of a list that a computed index chooses from."""


@dataclass(frozen=True, slots=True)
class Expr:
    """One of our expressions. ``raw`` is its value in IceProd's file where that is a constant."""

    text: str
    kind: str = "unknown"
    """number, text, flag, list or unknown"""
    raw: Any = None
    begins: str = ""
    """What its value begins with, where that is known."""
    padded: bool = False
    """It is a text of digits, which IceProd reads as a number where it stands alone."""


Piece = str | Expr


class Names(Protocol):
    """What names mean where a text stands."""

    def find(self, family: str, name: str) -> Expr | None:
        """The value of ``$family(name)``; None: IceProd knows none. The family of ``$(name)`` is empty."""

    def computed(self, family: str, pieces: Sequence[Piece]) -> Expr | None:
        """The same for a name that is itself computed."""

    def note(self, word: str, about: str) -> object:
        """Something for a person to look at."""


def reads_as(text: str) -> Any:
    """What IceProd 2 and 3 make of a text that stands alone: numbers, true, lists; itself otherwise."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text
    try:
        return json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        pass
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def written(value: Any) -> str:
    """A constant as IceProd writes it into a text."""
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def joined(pieces: Sequence[Piece]) -> str:
    """A text of a steering file; what would be an expression there and is none in IceProd is escaped."""
    text = ""
    for number, piece in enumerate(pieces):
        if isinstance(piece, str):
            text += _OURS.sub("$$", piece)
            continue
        said = piece.text
        if piece.kind == "flag" and len(pieces) > 1:
            said = as_word(piece).text
        if text.endswith("$") and number:
            text, said = text[:-1], f"$sprintf('$%s', {said})"
        text += said
    return text


def as_word(piece: Expr) -> Expr:
    """The expression as IceProd writes it into a text: ``True``, where we write ``true``."""
    return Expr(f"$eval('True' if {piece.text} else 'False')", "text") if piece.kind == "flag" else piece


class Translator:
    """Texts of one place; ``strict``: IceProd 2 and 3, whose parser is known to the letter; otherwise IceProd 1."""

    def __init__(self, names: Names, strict: bool) -> None:
        self._names = names
        self._strict = strict

    def pieces(self, text: str) -> list[Piece]:
        """The text as literal pieces and expressions."""
        if self._strict:
            if "$" in text and not parses(text):
                if _START.search(text):
                    self._names.note("CHECK", f"{text!r}: IceProd cannot parse this and takes it as it is; so it is here")
                return [text]
            text = text.replace("\\", "") if "\\" in text and parses(text) else text
        return _merged(self._pieces(text))

    def _pieces(self, text: str) -> list[Piece]:
        out: list[Piece] = []
        at = 0
        while (match := _START.search(text, at)) is not None:
            end = closing(text, match.end(), "()")
            if end is None:  # it does not end: a text, in which others may
                out.append(text[at : match.end()])
                at = match.end()
                continue
            out.append(text[at : match.start()])
            at = end + 1
            piece = self._call(match[1], text[match.end() : end])
            while text[at : at + 1] == "[" and isinstance(piece, Expr) and (end := closing(text, at + 1, "[]")) is not None:
                key = self._pieces(text[at + 1 : end])
                found = self._index(piece, _merged(key))
                if found is None:
                    self._names.note("NOT CONVERTED", f"{text[match.start() : end + 1]!r}: this index has no counterpart")
                    out += [piece, "[", *key]
                    piece = "]"
                else:
                    piece = found
                at = end + 1
            out += piece if isinstance(piece, list) else [piece]
        out.append(text[at:])
        return out

    def _call(self, name: str, body: str) -> Piece | list[Piece]:
        inner = _merged(self._pieces(body))
        maker: Callable[[list[Piece]], Expr | None] | None = {
            "eval": self._eval, "sprintf": self._sprintf, "choice": self._choice,
            "sum": lambda p: self._reduce("sum", p), "min": lambda p: self._reduce("min", p),
            "max": lambda p: self._reduce("max", p), "len": lambda p: self._reduce("len", p),
        }.get(name)  # fmt: skip
        found: Expr | None = None
        if maker is not None:
            found = maker(inner)
        elif name in ("", "steering", "args", "options", "system", "environ", "metadata", "attr"):
            plain = _constant(inner)
            found = self._names.find(name, plain) if plain is not None else self._names.computed(name, inner)
        else:
            return [f"${name}(", *inner, ")"]
        if found is None:
            self._names.note("NOT CONVERTED", f"${name}({body}) has no value that is known here; it is left as text")
            return [f"${name}(", *inner, ")"]
        return found

    def _eval(self, inner: list[Piece]) -> Expr | None:
        text = ""
        for piece in inner:
            if isinstance(piece, Expr) and piece.kind == "text" and isinstance(piece.raw, str) and not NUMBER.match(piece.raw):
                text += piece.raw  # IceProd puts the text into the expression, not the value
            else:
                text += piece if isinstance(piece, str) else piece.text
        bare = "".join(piece if isinstance(piece, str) else written(piece.raw) if piece.raw is not None else "(1)" for piece in inner)
        if self._strict and (any(word in bare for word in _UNSAFE) or not arithmetic(bare)):
            return None
        if "^" in bare or "~" in bare:
            return None
        if not self._strict and re.search(r"(?<!/)/(?!/)", bare):
            self._names.note("CHECK", f"$eval({text}): IceProd 1 divided whole numbers as Python 2 did (7/2 was 3); write // where that is meant")
        return Expr(f"$eval({text.strip()})", "number")

    def _sprintf(self, inner: list[Piece]) -> Expr | None:
        text, held = _hold(inner)
        if not text:
            return None
        quote = text[0] if text[0] in "'\"" else ""
        end = text.find(quote or ",", 1 if quote else 0)
        if end < 0:
            return None
        form = text[1:end] if quote else text[:end]
        comma = text.find(",", end)
        args = text[comma + 1 :].split(",") if comma >= 0 else []
        conversions = _CONVERSION.findall(form)
        if len(args) < len(conversions) or any(one[-1] == "r" for one in conversions):
            return None
        form = _CONVERSION.sub(lambda match: match[0][:-1] + "s" if match[0][-1] == "c" else match[0], form)
        parts = [_quoted(form, held)]
        numeric = _HELD.search(form) is None and not re.search(r"[^0-9+\-.eE]", _CONVERSION.sub("", form))
        for conversion, arg in zip(conversions, args, strict=False):
            if conversion[-1] in "cs":
                if not arg:
                    return None
                if not self._strict:
                    arg = arg.strip()
                parts.append(_quoted(arg[1:-1] if arg[0] in "'\"" else arg, held, bare=True))
                numeric = False
                continue
            if _HELD.search(arg):
                if not re.fullmatch(r"[+-]?[0-9.]*", _HELD.sub("", arg.strip())):
                    return None
            elif not is_number(arg, whole=conversion[-1].lower() in "xo"):
                return None
            parts.append(_restored(arg.strip(), held))
        begins = re.split(r"[%\0]", form)[0]
        return Expr(f"$sprintf({', '.join(parts)})", "text", begins=begins, padded=self._strict and bool(conversions) and numeric)

    def _choice(self, inner: list[Piece]) -> Expr | None:
        if not inner or inner == [""]:
            return None
        if len(inner) == 1 and isinstance(inner[0], Expr) and isinstance(inner[0].raw, list):
            self._names.note("CHECK", f"$choice({inner[0].text}): IceProd 2 and 3 take the list's text apart at its commas; here it is one of its members")
            return Expr(f"$choice({inner[0].text})")
        text, held = _hold(inner)
        parts = [part if self._strict else part.strip() for part in text.split(",")]
        kinds = {"number" if NUMBER.match(part.strip()) else "text" for part in parts}
        return Expr(f"$choice({', '.join(_quoted(part, held, bare=True) for part in parts)})", kinds.pop() if len(kinds) == 1 else "unknown")

    def _reduce(self, name: str, inner: list[Piece]) -> Expr | None:
        known: Any = None if inner else ""
        if len(inner) == 1:
            only = inner[0]
            known = reads_as(only) if isinstance(only, str) else only.raw
            if isinstance(only, Expr) and isinstance(known, str):
                known = reads_as(known)
        if name == "len" and isinstance(known, list | dict | str):
            return Expr(str(len(known)), "number", len(known))
        if not isinstance(known, list) or not known:
            return None
        members = [self._operand(member) for member in known]
        if any(member is None for member in members):
            return None
        said = [member for member in members if member is not None]
        if len(said) == 1:
            return Expr(f"$eval({said[0]})", "number")
        return Expr(f"$eval({' + '.join(said)})" if name == "sum" else f"$eval({name}({', '.join(said)}))", "number")

    def _operand(self, value: Any) -> str | None:
        """A member of a list inside ``$eval``."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        if not isinstance(value, str):
            return str(value) if value >= 0 else f"({value})"
        if self._strict:
            return None  # IceProd does not look for expressions in lists
        pieces = self.pieces(value)
        if len(pieces) == 1 and isinstance(pieces[0], Expr):
            return pieces[0].text
        return value if NUMBER.match(value) else None

    def _index(self, base: Expr, key: list[Piece]) -> Piece | None:
        known, place = base.raw, _constant(key)
        if isinstance(known, str):
            known = reads_as(known)
        if place is not None:
            at = reads_as(place) if isinstance(known, list) else place
            try:
                return self._member(known[at])
            except (LookupError, TypeError):
                return None
        if not isinstance(known, list) or not 0 < len(known) <= _MOST or len(key) != 1 or not isinstance(key[0], Expr):
            return None
        members = [self._operand(one) or (repr(one) if isinstance(one, str) and "$" not in one else None) for one in known]
        if any(member is None for member in members):
            return None
        chosen = "".join(f"{member} if {key[0].text} == {at} else " for at, member in enumerate(members[:-1]))
        return Expr(f"$eval({chosen}{members[-1]})", "number" if all(isinstance(one, int | float) for one in known) else "unknown")

    def _member(self, value: Any) -> Piece | None:
        if isinstance(value, str):
            pieces = self.pieces(value)
            return pieces[0] if len(pieces) == 1 else None
        if isinstance(value, list | dict):
            return Expr(written(value), "list", value)
        return written(value)


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    out: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        elif piece != "":
            out.append(piece)
    return out


def _constant(pieces: Sequence[Piece]) -> str | None:
    """The text of pieces that are all constants."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        elif piece.raw is None or (isinstance(piece.raw, str) and "$" in piece.raw):
            return None
        else:
            text += written(piece.raw)
    return text


def _hold(pieces: Sequence[Piece]) -> tuple[str, list[Expr]]:
    """The text with expressions as numbers between NULs, to be taken apart at commas."""
    held: list[Expr] = []
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        else:
            text += f"\0{len(held)}\0"
            held.append(piece)
    return text, held


def _restored(text: str, held: list[Expr], quoted: str = "") -> str:
    parts = _HELD.split(text)
    out = ""
    for number, part in enumerate(parts):
        if number % 2:
            piece = held[int(part)]
            out += as_word(piece).text if len(parts) > 3 or parts[0] or parts[-1] or quoted else piece.text
        else:
            plain = _OURS.sub("$$", part)
            out += re.sub(r"([\\'\"])", r"\\\1", plain) if quoted else plain
    return out


def _quoted(text: str, held: list[Expr], bare: bool = False) -> str:
    """A part of ``$sprintf`` and ``$choice``; ``bare``: without quotes where none are needed."""
    if bare and _HELD.fullmatch(text):
        return as_word(held[int(text.strip("\0"))]).text
    if bare and _HELD.search(text) is None and re.fullmatch(r"[A-Za-z0-9_./:+-]+", text):
        return text
    return "'" + _restored(text, held, "'") + "'"
