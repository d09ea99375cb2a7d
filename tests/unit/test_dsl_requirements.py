"""Requirements as agents compare them, and what cannot be reduced."""

from __future__ import annotations

import pytest

from icp.dsl.expressions import Compiler, Place
from icp.dsl.requirements import compile_, compile_requirement, fold
from icp.dsl.syntax import BadExpression
from icp.dsl.values import JobContext, Scope
from icp.model.definition import Resources

CPU = ("CPU", "==", True)
GPU = ("HasGPU", "==", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ((CPU,),)),
        ("$attr(GPU)", ((("GPU", "==", True),),)),
        ("not $attr(GPU)", ((("GPU", "!=", True),),)),
        ("!!$attr(GPU)", ((("GPU", "==", True),),)),
        ("$attr(GPU) != true", ((("GPU", "==", False),),)),
        ("not ($attr(GPU) == true)", ((("GPU", "==", False),),)),
        ("5000 <= $attr(M)", ((("M", ">=", 5000),),)),
        ("1 < $attr(M) <= 8.5", ((("M", ">", 1), ("M", "<=", 8.5)),)),
        ("not (1 < $attr(M) < 8)", ((("M", "<=", 1),), (("M", ">=", 8),))),
        (
            "$attr(A) && ($attr(B) || $attr(C) == 'x')",
            ((("A", "==", True), ("B", "==", True)), (("A", "==", True), ("C", "==", "x"))),
        ),
        ("$attr(A) or $attr(A) and $attr(B)", ((("A", "==", True),),)),
        ("true", ((),)),
        ("1 > 2", ()),
        ("$attr(T) > -5", ((("T", ">", -5),),)),
    ],
)
def test_reduced(text: str, expected: object) -> None:
    assert compile_(text, Resources()) == expected


def test_gpus_imply_a_gpu() -> None:
    assert compile_("", Resources(gpus=1)) == ((GPU,),)
    assert compile_("$attr(A) or $attr(B)", Resources(gpus=2)) == ((("A", "==", True), GPU), (("B", "==", True), GPU))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$attr(A) == $attr(B)", "cannot be compared with each other"),
        ("$eval($attr(A) * 2) > 5", "cannot be reduced"),
        ("$attr(A) > 'x'", "only numbers have an order"),
        ("$attr(A) > true", "by == and != only"),
        ("$attr(A) = 5", "comparisons are =="),
        ("$attr(A) ==", "a constant expected"),
        ("($attr(A)", "')' expected"),
        ("$attr(A) $attr(B)", "'and' or 'or' expected"),
        ("!$attr(A) == 5", "put the comparison in brackets"),
        ("A > 5", "an attribute is $attr(A)"),
        ("$attr(A) > $system(x)", "$system is not known"),
        ("$attr($args(job))", "cannot be computed"),
        ("(" * 500 + "$attr(A)" + ")" * 500, "too deeply"),
        ("not " * 500 + "$attr(A)", "too deeply"),
        (" and ".join(f"($attr(A{i}) or $attr(B{i}))" for i in range(20)), "more than 64 alternatives"),
        (" and ".join(f"$attr(A{i})" for i in range(100)), "more than 64 comparisons"),
    ],
)
def test_what_cannot_be_reduced_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(BadExpression) as caught:
        compile_(text, Resources())
    assert reason in caught.value.reason


def test_variables_may_hold_constants_and_requirements() -> None:
    compiler = Compiler({"gpu": "$attr(GPU) or $attr(Fast)", "least": "$eval($args(n) * 2)", "m": "$attr(M)"}, ["n"])
    requirement = compile_requirement(
        "$steering(gpu) and $steering(m) > $steering(least)", compiler, Place("t", "requirements")
    )
    scope = Scope(JobContext("d", 1, 2, 3, {"n": "3"}), "t")
    assert requirement.reduce(scope, False) == (
        (("GPU", "==", True), ("M", ">", 6)),
        (("Fast", "==", True), ("M", ">", 6)),
    )


def test_what_a_site_is_known_to_have_is_folded_in() -> None:
    clauses = compile_("$attr(GPU) and $attr(M) > 5 or $attr(OS) == 'el9' and not $attr(Slow)", Resources())
    assert fold(clauses, {"GPU": False, "OS": "el8"}) == ()
    assert fold(clauses, {"GPU": True, "OS": "el8"}) == ((("M", ">", 5),),)
    assert fold(clauses, {"OS": "el9", "Slow": False}) == ((),)
    assert fold(clauses, {}) == clauses
