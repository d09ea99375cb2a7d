"""Where a value may stand in a shell command, and how it is one word there (hides quotes and here-documents).

The lexer is careful, not complete: where shells differ, or where it cannot follow, it says so if an expression comes
after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from icp.dsl.syntax import START, BadExpression, Call, call_at, literal, together

__all__ = ["Insert", "lex", "lex_all"]

_BLANK = " \t\n"
_WORD_ENDS = _BLANK + ";&|()<>"
_HERE = re.compile(r"<<(-?)[ \t]*((?:\\.|'[^'\n]*'|\"[^\"\n]*\"|[^\s;&|()<>'\"\\])+)")
_CASE = re.compile(r"(?<![A-Za-z0-9_])case[\s\\]")
_FILE_HINT = "move the script to a file that is shipped with files = [...], and give it the value as an argument"


@dataclass(frozen=True, slots=True)
class Insert:
    """An expression in a command; ``number``: a number needs no quotes here; ``word``: nor does a plain word; ``alone``: white space around it."""

    call: Call
    number: bool
    word: bool
    alone: bool = False


@dataclass(slots=True)
class _Frame:
    kind: str  # plain, double, brace, arithmetic
    start: int
    depth: int = 0


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.stack = [_Frame("plain", 0)]
        self.pieces: list[str | Insert] = []
        self.plain_from = 0
        self.problems: list[BadExpression] = []
        self.here: list[tuple[str, bool, bool]] = []
        self.doubt = ""
        self.escaped = -2
        self.glued = 0  # where an expression or a substitution ends: its ')' ends no word

    def run(self) -> list[str | Insert]:
        text = self.text
        while self.position < len(text):
            frame = self.stack[-1]
            letter = text[self.position]
            if letter == "\\":
                self._backslash()
            elif letter == "$":
                self._dollar(frame)
            elif letter == "`":
                self._backquote()
            else:
                getattr(self, f"_{frame.kind}")(letter)
        self._flush(len(text))
        return self.pieces

    def _flush(self, end: int) -> None:
        if self.plain_from < end:
            self.pieces.append(self.text[self.plain_from : end])

    def _doubt(self, why: str) -> None:
        self.doubt = self.doubt or why

    def _refuse(self, call: Call, why: str) -> None:
        self.problems.append(BadExpression(call.text, why))
        # what is wrong with the expression itself is said too
        self.pieces.append(Insert(call, False, False))
        self.position = call.end

    def _backslash(self) -> None:
        match = START.match(self.text, self.position + 1)
        if match is not None and not match.group(1):
            call = call_at(self.text, match)
            self._refuse(call, f"a backslash stands before it; ${call.text} is this text itself, without a value")
            return
        if self.text.startswith("\n", self.position + 1):
            self._continued(self.position)
        else:
            self.escaped = self.position + 1
        self.position += 2

    def _continued(self, at: int) -> None:
        """A line that goes on: harmless between words, but it can also make ``<<``, ``$(`` or ``case`` of two halves."""
        before = self.text[at - 1 : at] or " "
        if self.stack[-1].kind == "double":
            split_up = before == "$"
        else:
            between = before in " \t\n;&|" and self.escaped != at - 1
            split_up = not between and self.text[at + 2 : at + 3] not in ("", " ", "\t", "\n")
        if split_up:
            self._doubt("a line is continued in the middle of a word")

    def _dollar(self, frame: _Frame) -> None:
        text, at = self.text, self.position
        match = START.match(text, at)
        if match is not None and match.group(1):
            self._flush(at)
            self.plain_from = at + 1
            self.position = match.end() - 1
        elif match is not None:
            self._expression(frame, call_at(text, match))
        elif text.startswith("$((", at):
            self.stack.append(_Frame("arithmetic", at))
            self.position += 3
        elif text.startswith("$(", at):
            self.stack.append(_Frame("plain", at))
            self.position += 2
        elif text.startswith("${", at):
            self.stack.append(_Frame("brace", at))
            # ${#x} and ${x#y}: the '#' is no comment in this frame
            self.position += 2
        elif text.startswith("$'", at) and frame.kind == "plain":
            self._ansi(at)
        elif text.startswith("$'", at) and frame.kind == "brace":
            self._doubt("there is $'...' inside ${...}")
            self.position += 1
        else:
            self.position += 2 if text.startswith("$$", at) else 1

    def _expression(self, frame: _Frame, call: Call) -> None:
        if frame.kind == "double":
            self._refuse(call, f"it stands inside quotes; write {self._right_form(frame.start, chr(34))}")
        elif frame.kind == "brace":
            self._refuse(call, "it stands inside ${...}; give it to a variable first: x=" + call.text)
        elif frame.kind == "arithmetic":
            self._refuse(
                call,
                "it stands inside $((...)); compute with $eval(...), or give it to a variable first: x=" + call.text,
            )
        elif self.doubt:
            self._refuse(call, f"{self.doubt}, so nobody can tell which quotes it stands in; {_FILE_HINT}")
        else:
            self._flush(call.start)
            before = self.text[call.start - 1] if call.start else " "
            after = self.text[call.end] if call.end < len(self.text) else " "
            free = before in " \t\n=/,:.-" and self.escaped != call.start - 1
            number = free and after in " \t\n;/._,:-"
            alone = free and before in " \t\n" and after in " \t\n;)|&<>"
            self.pieces.append(Insert(call, number, number and after in " \t\n;", alone))
            self.position = self.plain_from = self.glued = call.end

    def _right_form(self, start: int, quote: str) -> str:
        end = start + 1
        while end < len(self.text) and self.text[end] != quote:
            match = START.match(self.text, end)
            if match is not None and not match.group(1):
                end = call_at(self.text, match).end
            else:
                end += 2 if self.text[end] == "\\" and quote == '"' else 1
        inner, form, position = self.text[start + 1 : end], [], 0
        while (match := START.search(inner, position)) is not None:
            if match.group(1):
                form.append(quote + inner[position : match.end()] + quote)
                position = match.end()
                continue
            call = call_at(inner, match)
            form += [quote + inner[position : call.start] + quote, call.text]
            position = call.end
        form.append(quote + inner[position:] + quote)
        return "".join(part for part in form if part != quote * 2)

    def _ansi(self, at: int) -> None:
        end = self.text.find("'", at + 2)
        if end > 0 and self.text[end - 1] == "\\":
            self._doubt("shells differ about $'...' with a backslash before a quote")
        self._single(at + 1)

    def _single(self, at: int) -> None:
        end = self.text.find("'", at + 1)
        end = len(self.text) if end < 0 else end
        position = at + 1
        while (match := START.search(self.text, position, end)) is not None:
            if match.group(1):
                self._flush(match.start())
                self.plain_from = match.start() + 1
                position = match.end()
                continue
            call = call_at(self.text, match)
            self._refuse(call, f"it stands inside quotes; write {self._right_form(at, chr(39))}")
            position = call.end
            end = self.text.find("'", position)
            end = len(self.text) if end < 0 else end
        self.position = end + 1

    def _backquote(self) -> None:
        end = self.position + 1
        while end < len(self.text) and self.text[end] != "`":
            end += 2 if self.text[end] == "\\" else 1
        for match in START.finditer(self.text, self.position, end):
            if match.group(1):
                self._flush(match.start())
                self.plain_from = match.start() + 1
            else:
                call = call_at(self.text, match)
                self._refuse(call, "it stands inside backquotes, which change what is in them; write $( ... ) instead")
        self.position = end + 1

    def _plain(self, letter: str) -> None:
        frame, text, at = self.stack[-1], self.text, self.position
        starts_word = at == 0 or (text[at - 1] in _WORD_ENDS and self.escaped != at - 1 and self.glued != at)
        self.position += 1
        if letter == "'":
            self._single(at)
        elif letter == '"':
            self.stack.append(_Frame("double", at))
        elif letter == "#" and starts_word:
            if text[at - 1 : at] == ")":
                self._doubt("a '#' follows ')' at once")
            end = text.find("\n", at)
            self.position = len(text) if end < 0 else end
        elif letter == "<" and text.startswith("<<<", at):
            self.position += 2
        elif letter == "<" and text.startswith("<<", at):
            self._here_document(at)
        elif letter == "\n" and self.here:
            self._here_bodies()
        elif letter == "(":
            frame.depth += 1
        elif letter == ")":
            self._close(frame)
        elif letter == "c" and len(self.stack) > 1 and _CASE.match(text, at):
            self._doubt("there is a 'case' inside $( ... )")

    def _close(self, frame: _Frame) -> None:
        if frame.depth:
            frame.depth -= 1
        elif len(self.stack) > 1:
            self.stack.pop()
            self.glued = self.position
            if self.here:
                self._doubt("a here-document begins inside $( ... ) and does not end there")

    def _double(self, letter: str) -> None:
        self.position += 1
        if letter == '"':
            self.stack.pop()

    def _brace(self, letter: str) -> None:
        at = self.position
        self.position += 1
        if letter == "}":
            self.stack.pop()
        elif letter in "'\"":
            if any(outer.kind in ("double", "arithmetic") for outer in self.stack):
                self._doubt("there are quotes inside ${...} inside quotes")
            elif letter == "'":
                self._single(at)
            else:
                self.stack.append(_Frame("double", at))

    def _arithmetic(self, letter: str) -> None:
        frame = self.stack[-1]
        self.position += 1
        if letter == "(":
            frame.depth += 1
        elif letter == ")" and frame.depth:
            frame.depth -= 1
        elif letter == ")":
            if self.text.startswith(")", self.position):
                self.position += 1
            else:
                self._doubt("$(( does not end with ))")
            self.stack.pop()
            self.glued = self.position
        elif letter in "'\"":
            self._doubt("there are quotes inside $((...))")

    def _here_document(self, at: int) -> None:
        match = _HERE.match(self.text, at)
        if match is None or START.search(match.group(2)):
            self._doubt("the word after << cannot be read")
            self.position = at + 2
            return
        delimiter = re.sub(r"\\(.)|['\"]", r"\1", match.group(2))
        self.here.append((delimiter, bool(match.group(1)), delimiter != match.group(2)))
        self.position = match.end()

    def _here_bodies(self) -> None:
        for delimiter, tabs, quoted in self.here:
            found = False
            while self.position < len(self.text) and not found:
                end = self.text.find("\n", self.position)
                end = len(self.text) if end < 0 else end
                line = self.text[self.position : end]
                found = (line.lstrip("\t") if tabs else line) == delimiter
                start, self.position = self.position, end + (end < len(self.text))
                if not found:
                    self._here_line(start, end)
                    if not quoted and line.endswith("\\"):
                        self._doubt("a line of a here-document ends with a backslash")
            if not found:
                self._doubt(f"the here-document does not end with a line {delimiter}")
        self.here = []

    def _here_line(self, start: int, end: int) -> None:
        for match in START.finditer(self.text, start, end):
            if match.group(1):
                self._flush(match.start())
                self.plain_from = match.start() + 1
                continue
            after = self.position
            call = call_at(self.text, match)
            self._refuse(
                call,
                f"it stands in a here-document; give it to a variable before the command, x={call.text}, and write $x there",
            )
            self.position = after


def lex(text: str) -> list[str | Insert]:
    """The command as text for the shell and expressions that stand where one word can stand.

    BadExpression (with all of them) for expressions inside quotes, here-documents, ``${}``, ``$(())`` and backquotes,
    each with the right form. A comment stays as it is.
    """
    pieces, problems = lex_all(text)
    if problems:
        raise together(problems)
    return pieces


def lex_all(text: str) -> tuple[list[str | Insert], list[BadExpression]]:
    """As :func:`lex`, with the mistakes beside what could be understood."""
    if not any(not match.group(1) for match in START.finditer(text)):
        return [literal(text)], []
    lexer = _Lexer(text)
    return lexer.run(), lexer.problems
