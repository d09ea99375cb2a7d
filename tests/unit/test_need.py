"""Needs: canonical bytes, ids by content, and the need of a chain."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.model.need import Need, join, parse

TERMS = st.tuples(
    st.sampled_from(["CPU", "GPU", "os", "mem"]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.booleans() | st.integers(-9, 9) | st.sampled_from(["el9", "é"]),
)
SIZES = st.integers(0, 10**15)
NEEDS = st.builds(
    Need,
    any=st.lists(st.lists(TERMS, max_size=3).map(tuple), max_size=3).map(tuple),
    cpus=st.integers(0, 64),
    memory=SIZES,
    disk=SIZES,
    gpus=st.integers(0, 8),
    time=SIZES,
    software=st.sampled_from([(), ("a",), ("a", "b")]),
)
LAWS = settings(deadline=None, max_examples=100)


def test_the_bytes_are_those_of_the_format():
    need = Need(disk=4_000_000_000, time=28800)
    assert (
        need.bytes
        == b'{"any":[[["CPU","==",true]]],"cpus":1,"disk":4000000000,"gpus":0,"memory":2000000000,"time":28800}'
    )
    assert need.id == "f317f042a01943ae"


@LAWS
@given(NEEDS)
def test_a_need_comes_back_from_its_bytes_and_is_named_by_them(need):
    assert parse(need.bytes) == need
    assert need.id == hashlib.sha256(need.bytes).hexdigest()[:16]
    assert need.bytes == json.dumps(json.loads(need.bytes), sort_keys=True, separators=(",", ":")).encode()


@LAWS
@given(NEEDS, NEEDS)
def test_different_needs_have_different_names(one, other):
    assert (one.bytes == other.bytes) == (one.id == other.id)


@LAWS
@given(st.lists(NEEDS, min_size=1, max_size=3))
def test_a_chain_asks_for_the_largest_of_each_and_the_sum_of_the_times(needs):
    chain = join(needs)
    for word in ("cpus", "memory", "disk", "gpus"):
        assert getattr(chain, word) == max(getattr(need, word) for need in needs)
    assert chain.time == sum(need.time for need in needs)
    # whoever fulfils a clause of the chain fulfils one of every member
    for clause in chain.any:
        assert all(any(set(inner) <= set(clause) for inner in need.any) for need in needs)


def test_a_chain_with_a_member_that_fits_nowhere_fits_nowhere():
    assert join([Need(), Need(any=())]).any == ()
    assert join([Need(any=((),)), Need()]).any == ((("CPU", "==", True),),)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"any":1}', "null"])
def test_what_is_no_need_is_not_read_as_one(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse(text)
