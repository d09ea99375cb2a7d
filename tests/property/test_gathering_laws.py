"""Laws of groups that fill as outputs come: each output in one job, once, whatever the order and however they arrive."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from icp.model.chains import ChainOutput, columns, gather, name_in_task, row

KEYS = st.sampled_from(["", "a", "b", "c"])


@st.composite
def arrivals(draw):
    """(key, output) of every output in the order in which they come, cut into ticks; None: nothing is left to come, said in the last one."""
    outputs = [(draw(KEYS), number) for number in range(draw(st.integers(0, 40)))]
    order = draw(st.permutations(outputs))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=6)))
    return [order[low:high] for low, high in zip([0, *cuts], [*cuts, len(order)], strict=True)]


def run(ticks, size, *, over=True):
    """Every tick as the ledger does it: what is in no full group waits for the next."""
    waiting, jobs = {}, []
    for number, tick in enumerate(ticks):
        full = gather(waiting, tick, size, over=over and number == len(ticks) - 1)
        taken = {member for _, members in full for member in members}
        for key, member in tick:
            waiting.setdefault(key, []).append(member)
        waiting = {key: [one for one in members if one not in taken] for key, members in waiting.items()}
        jobs += full
    return jobs, {key: members for key, members in waiting.items() if members}


@given(arrivals(), st.none() | st.integers(1, 7))
def test_each_output_is_in_exactly_one_job_and_groups_are_full_but_for_the_last_of_a_key(ticks, size):
    came = [one for tick in ticks for one in tick]
    jobs, left = run(ticks, size)
    assert not left
    assert Counter((key, member) for key, members in jobs for member in members) == Counter(came)
    for key in {key for key, _ in came}:
        sizes = [len(members) for other, members in jobs if other == key]
        if size is None:
            assert len(sizes) == 1, "without a size a key is one job"
        else:
            assert all(n == size for n in sizes[:-1]) and 1 <= sizes[-1] <= size
        assert [member for other, members in jobs if other == key for member in members] == [member for other, member in came if other == key]


@given(arrivals(), st.integers(1, 7))
def test_nothing_waits_that_could_be_a_full_group(ticks, size):
    jobs, left = run(ticks, size, over=False)
    assert all(len(members) == size for _, members in jobs)
    assert all(len(members) < size for members in left.values())


@given(arrivals(), st.none() | st.integers(1, 7))
def test_how_arrivals_fall_into_ticks_changes_no_group(ticks, size):
    whole = [one for tick in ticks for one in tick]
    assert sorted(run(ticks, size)[0]) == sorted(run([whole], size)[0])


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["x.txt", "deep/x.txt", "y.txt"])), min_size=1, max_size=20, unique=True), st.booleans())
def test_files_of_a_group_have_names_of_their_own_and_columns_have_values(files, keyed):
    outputs = [ChainOutput("parent", job, f"{job:06d}", name, "ab", f"/out/{job:06d}/{name}") for job, name in files]
    made = row("main", outputs, grouped=True, key="k" if keyed else None)
    named = dict(zip(columns(grouped=True, keyed=keyed), made, strict=True))
    assert len(set(named["files"])) == len(files)
    assert named["source_job"] == [job for job, _ in files]
    assert named.get("source_group") == ("k" if keyed else None)
    assert name_in_task("main", "000001", "deep/x.txt", grouped=False) == "x.txt"
