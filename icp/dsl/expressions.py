"""Expressions, ``$args(x)`` and its six friends, compiled once to closures (hides how a value is found).

A :class:`Compiler` belongs to one steering file. What it makes knows what it ``uses``, so that validation can say
what a place does not have, and constants are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.dsl.arithmetic import CannotCompute, compile_arithmetic
from icp.dsl.formatting import sprintf
from icp.dsl.syntax import BadExpression, Call, nearest, split, split_list, together, unquoted
from icp.dsl.values import MAX_TEXT, NODE_NAMES, Marked, Node, SiteContext, choose, joined, show

__all__ = ["ARGS", "Compiled", "Compiler", "Place"]

ARGS = {
    "dataset": "the dataset's name",
    "job": "the job's index, from 0",
    "jobs": "how many jobs the dataset has",
    "task": "the task's name",
    "seed": "63 random-looking bits, fixed by the dataset's seed, the job and the task",
    "iter": "the tray's iteration, from 0 (in commands)",
    "run": "the same as job, unless a column has this name",
    "subrun": "the same as iter, unless a column has this name",
    "files": "the job's file (with jobs.files or jobs.from; a list where it is made from a group of them)",
    "group": "what group_by gave (in final tasks)",
}
"""What ``$args`` knows besides the columns of a scan or a CSV file."""

MAX_COST = 10_000
"""Expressions that one evaluation may meet, through variables too."""

Closure = Callable[[Any], Any]
Use = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A text ready to be evaluated: ``run(scope)`` gives its value.

    ``uses`` names what it asks of a scope, through steering variables too: ("args", "job"), ("system", "tmp"),
    ("attr", "X"), ("choice", ""); a name that is itself computed is "*". Nothing used: ``run`` takes any scope, also
    None. ``cost`` bounds how many expressions one evaluation may meet.
    """

    text: str
    run: Closure
    uses: frozenset[Use]
    cost: int = 1

    @property
    def constant(self) -> bool:
        return not self.uses

    @property
    def marks(self) -> bool:
        """Whether the value may hold something that only the node knows."""
        return any(kind == "system" and (key in NODE_NAMES or key == "*") for kind, key in self.uses)


def _uses(parts: Iterable[Compiled]) -> frozenset[Use]:
    return frozenset(use for part in parts for use in part.uses)


def _cost(parts: Iterable[Compiled], expression: str) -> int:
    total = 1 + sum(part.cost for part in parts)
    if total > MAX_COST:
        raise BadExpression(expression[:60], f"it leads to more than {MAX_COST} expressions")
    return total


class Place:
    """Where a text stands; counts the choices in it, so that each is a draw of its own."""

    __slots__ = ("count", "field", "owner")

    def __init__(self, owner: str, field: str) -> None:
        self.owner = owner
        self.field = field
        self.count = 0


class Compiler:
    """Compiles the texts of one steering file: its variables, and the columns that its jobs have."""

    def __init__(self, variables: Mapping[str, Any], columns: Iterable[str]) -> None:
        self._variables = variables
        self._columns = frozenset(columns)
        self._known: dict[str, Compiled | BadExpression] = {}
        self._open: list[str] = []

    @property
    def arguments(self) -> list[str]:
        """Every name that ``$args`` knows here."""
        return [*ARGS, *sorted(self._columns - ARGS.keys())]

    def compile(self, text: str, place: Place) -> Compiled:
        """Text with expressions; one single expression keeps its type. BadExpression has all that is wrong with it."""
        return self._template(split(text), text, place)

    def _template(self, pieces: list[str | Call], text: str, place: Place) -> Compiled:
        compiled: list[str | Compiled] = []
        problems: dict[str, BadExpression] = {}
        for piece in pieces:
            if isinstance(piece, str):
                compiled.append(piece)
                continue
            try:
                compiled.append(self.call(piece, place))
            except BadExpression as error:
                problems.update((str(one), one) for one in error.all)
        if problems:
            raise together(problems.values())
        if len(compiled) == 1 and isinstance(compiled[0], Compiled):
            return compiled[0]
        return _concatenated(compiled, text)

    def call(self, call: Call, place: Place) -> Compiled:
        """One expression."""
        compiled: Compiled = getattr(self, f"_{call.name}")(call, place)
        if compiled.constant:
            value = compiled.run(None)
            return Compiled(call.text, lambda scope: value, frozenset())
        return compiled

    def plain(self, key: str) -> Any:
        """A steering variable as it stands in the file, or None."""
        return self._variables.get(key)

    def variable(self, key: str, expression: str) -> Compiled:
        """The value of a steering variable; BadExpression for an unknown one and for a cycle."""
        known = self._known.get(key)
        if isinstance(known, BadExpression):
            raise together(known.all)
        if known is not None:
            return known
        if key not in self._variables:
            meant = nearest(key, self._variables)
            raise BadExpression(
                expression, f"[steering] has no {key!r}", f"$steering({meant})" if meant is not None else None
            )
        if key in self._open:
            circle = [*self._open[self._open.index(key) :], key]
            raise BadExpression(expression, "a circle of variables: " + " -> ".join(circle))
        self._open.append(key)
        try:
            compiled = self._value(self._variables[key], key, Place("", key))
        except BadExpression as error:
            # kept, because variables that name it again and again would compile it as often
            self._known[key] = error
            raise
        finally:
            self._open.pop()
        self._known[key] = compiled
        return compiled

    def _value(self, value: Any, text: str, place: Place) -> Compiled:
        if isinstance(value, str):
            return self.compile(value, place)
        if isinstance(value, list | tuple):
            members = [self._value(member, text, place) for member in value]
            return Compiled(text, lambda scope: [m.run(scope) for m in members], _uses(members), _cost(members, text))
        return Compiled(text, lambda scope: value, frozenset())

    def _key(self, call: Call, place: Place) -> str | Compiled:
        pieces = split(call.body.strip())
        if not pieces:
            raise BadExpression(call.text, "a name is missing between the brackets")
        if all(isinstance(piece, str) for piece in pieces):
            return "".join(piece for piece in pieces if isinstance(piece, str))
        return self._template(pieces, call.body, place)

    def _args(self, call: Call, place: Place) -> Compiled:
        key = self._key(call, place)
        if isinstance(key, Compiled):
            return self._computed_args(call, key)
        run: Closure
        if key in self._columns:
            run = _column(key)
        elif key in _ARGUMENTS:
            run = _ARGUMENTS[key]
        elif key in ARGS:
            raise BadExpression(call.text, "it has a value only with jobs.files")
        else:
            meant = nearest(key, self.arguments)
            reason = f"$args knows no {key!r}; it knows {', '.join(self.arguments)}"
            raise BadExpression(call.text, reason, f"$args({meant})" if meant else None)
        return Compiled(call.text, run, frozenset([("args", key)]))

    def _computed_args(self, call: Call, key: Compiled) -> Compiled:
        known = {name: ask for name, ask in _ARGUMENTS.items() if name not in ("iter", "subrun", "group")}
        known.update((name, _column(name)) for name in self._columns)

        def run(scope: Any) -> Any:
            name = show(key.run(scope), call.text)
            if name not in known:
                raise BadExpression(call.text, f"$args knows no {name!r}")
            return known[name](scope)

        return Compiled(call.text, run, key.uses | {("args", "*")})

    def _steering(self, call: Call, place: Place) -> Compiled:
        key = self._key(call, place)
        if isinstance(key, str):
            found = self.variable(key, call.text)
            return Compiled(call.text, found.run, found.uses, found.cost)
        if self._open:
            raise BadExpression(call.text, "inside [steering] the name of a variable cannot be computed")
        every = {name: self.variable(name, call.text) for name in self._variables}
        uses = key.uses | _uses(every.values())

        def run(scope: Any) -> Any:
            name = show(key.run(scope), call.text)
            if name not in every:
                raise BadExpression(call.text, f"[steering] has no {name!r}")
            return every[name].run(scope)

        return Compiled(call.text, run, uses, max([_cost([key], call.text), *(value.cost for value in every.values())]))

    def _system(self, call: Call, place: Place) -> Compiled:
        key = self._key(call, place)
        expression = call.text
        if isinstance(key, Compiled):
            computed = key
            return Compiled(
                expression,
                lambda scope: _of_system(scope.site, show(computed.run(scope), expression), expression),
                key.uses | {("system", "*")},
            )
        name = key
        return Compiled(
            expression, lambda scope: _of_system(scope.site, name, expression), frozenset([("system", name)])
        )

    def _attr(self, call: Call, place: Place) -> Compiled:
        key = self._key(call, place)
        if isinstance(key, Compiled):
            raise BadExpression(call.text, "the name of an attribute cannot be computed")
        expression, name = call.text, key

        def run(scope: Any) -> Any:
            if name not in scope.site.attributes:
                raise BadExpression(expression, f"site {scope.site.name} does not say its {name!r}")
            return scope.site.attributes[name]

        return Compiled(expression, run, frozenset([("attr", name)]))

    def _eval(self, call: Call, place: Place) -> Compiled:
        operands: dict[str, Closure] = {}
        text: list[str] = []
        members: list[Compiled] = []
        for piece in split(call.body):
            if isinstance(piece, str):
                text.append(piece)
                continue
            if _inside_quotes("".join(text)):
                raise BadExpression(call.text, f"no quotes around an expression here: write {piece.text} alone")
            found = self.call(piece, place)
            if found.marks:
                raise BadExpression(call.text, f"only the node knows {piece.text}, so it cannot be computed with")
            name = f"value_{len(operands)}_"
            operands[name] = found.run
            members.append(found)
            text.append(f" {name} ")
        expression = call.text
        try:
            compute = compile_arithmetic("".join(text), operands)
        except CannotCompute as error:
            raise BadExpression(expression, str(error)) from None

        def run(scope: Any) -> Any:
            try:
                return compute(scope)
            except CannotCompute as error:
                raise BadExpression(expression, str(error)) from None

        return Compiled(expression, run, _uses(members), _cost(members, expression))

    def _members(self, call: Call, place: Place) -> list[Compiled]:
        members = []
        for part in split_list(call.body):
            inner, quoted = unquoted(part)
            if not inner and not quoted:
                raise BadExpression(call.text, "a part of the list is empty; write '' for an empty text")
            members.append(self.compile(inner, place))
        return members

    def _sprintf(self, call: Call, place: Place) -> Compiled:
        members = self._members(call, place)
        form, values, expression = members[0], members[1:], call.text
        if any(member.marks for member in members):
            raise BadExpression(expression, "what only the node knows cannot be formatted")

        def run(scope: Any) -> str:
            given: list[Any] = []
            for value in values:
                got = value.run(scope)
                given.extend(got) if isinstance(got, list) else given.append(got)
            return sprintf(show(form.run(scope), expression), given, expression)

        return Compiled(expression, run, _uses(members), _cost(members, expression))

    def _choice(self, call: Call, place: Place) -> Compiled:
        position = place.count
        place.count += 1
        members = self._members(call, place)
        owner, field, expression = place.owner, place.field, call.text

        def run(scope: Any) -> Any:
            job = scope.job
            if len(members) == 1 and isinstance(values := members[0].run(scope), list):
                if not values:
                    raise BadExpression(expression, "the list is empty")
                return values[choose(job.dataset_seed, job.job, owner, field, position, len(values))]
            return members[choose(job.dataset_seed, job.job, owner, field, position, len(members))].run(scope)

        return Compiled(expression, run, _uses(members) | {("choice", "")}, _cost(members, expression))


def _column(key: str) -> Closure:
    return lambda scope: scope.job.row[key]


_ARGUMENTS: dict[str, Closure] = {
    "dataset": lambda scope: scope.job.dataset,
    "job": lambda scope: scope.job.job,
    "jobs": lambda scope: scope.job.jobs,
    "task": lambda scope: scope.task,
    "seed": lambda scope: scope.seed,
    "iter": lambda scope: scope.iteration,
    "run": lambda scope: scope.job.job,
    "subrun": lambda scope: scope.iteration,
    "group": lambda scope: scope.job.group or "",
}

_NODES = {name: Node(name) for name in NODE_NAMES}


def _of_system(site: SiteContext, name: str, expression: str) -> Any:
    if name in _NODES:
        return _NODES[name]
    if name == "site":
        return site.name
    if name not in site.system:
        raise BadExpression(expression, f"site {site.name} has no {name!r}; add it to [site.{site.name}.system]")
    return site.system[name]


def _inside_quotes(text: str) -> bool:
    quote, skip = "", False
    for letter in text:
        if skip:
            skip = False
        elif quote:
            skip = letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
    return bool(quote)


def _concatenated(pieces: list[str | Compiled], text: str) -> Compiled:
    found = [piece for piece in pieces if isinstance(piece, Compiled)]
    whole = Compiled(text, lambda scope: None, _uses(found), _cost(found, text))
    if whole.constant:
        fixed = joined(piece if isinstance(piece, str) else piece.run(None) for piece in pieces)
        return Compiled(text, lambda scope: fixed, whole.uses)
    parts = [piece if isinstance(piece, str) else piece.run for piece in pieces]

    def mark(scope: Any) -> str | Marked:
        return joined(part if isinstance(part, str) else part(scope) for part in parts)

    def run(scope: Any) -> str:
        value = "".join([part if isinstance(part, str) else show(part(scope), text) for part in parts])
        if len(value) > MAX_TEXT:
            raise BadExpression(text[:40], f"the text is longer than {MAX_TEXT} characters")
        return value

    return Compiled(text, mark if whole.marks else run, whole.uses, whole.cost)
