"""Which jobs ``--job`` means, in every command that takes several."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.commands.arguments import job_spans, jobs_text
from icp.errors import BadInput
from icp.ledger.definitions import TaskDefRow

SUM = TaskDefRow(7, 1, 1, "sum", final=1, tries=3)


@pytest.mark.parametrize(
    ("texts", "spans", "said"),
    [
        (None, [(0, 19)], "jobs 0-19"),
        (["3"], [(3, 3)], "job 3"),
        (["1-5"], [(1, 5)], "jobs 1-5"),
        (["1-5,8,12-"], [(1, 5), (8, 8), (12, 19)], "jobs 1-5, 8, 12-19"),
        (["12-", "8", "1-5"], [(1, 5), (8, 8), (12, 19)], "jobs 1-5, 8, 12-19"),
        (["1-3,3-5,6, 8-9"], [(1, 6), (8, 9)], "jobs 1-6, 8-9"),
        (["4,4", "4"], [(4, 4)], "job 4"),
        (["0-19"], [(0, 19)], "jobs 0-19"),
        (["0,2,4,6,8,10,12,14,16"], [(n, n) for n in range(0, 17, 2)], "jobs 0, 2, 4, 6, 8, 10, 12, and 2 ranges more"),
    ],
)
def test_jobs_are_chosen_by_numbers_ranges_and_lists(texts, spans, said):
    assert job_spans(texts, 20) == spans
    assert jobs_text(spans) == said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "--job x: expected a job such as 17, a range"), ("", "--job '': expected a job"), ("1,", "--job '': expected a job"),
        ("1-2-3", "--job 1-2-3: expected"), ("-3", "--job -3: expected"), ("1..5", "--job 1..5: expected"), ("²", "--job ²: expected"),
        ("5-3", "--job 5-3: the range ends before it begins"), ("7,20", "--job 20: this dataset has jobs 0 to 19"), ("19-20", "jobs 0 to 19"),
        ("25-", "--job 25-: this dataset has jobs 0 to 19"), ("final", "--job final: expected"),
    ],
)  # fmt: skip
def test_a_bad_range_is_one_sentence(text, words):
    with pytest.raises(BadInput) as error:
        job_spans(["0", text], 20)
    assert words in error.value.message


def test_groups_of_a_final_task_are_chosen_where_they_may_be():
    assert job_spans(["final/3", "final", "2"], 20, finals=True) == [(-4, -4), (-1, -1), (2, 2)]
    assert job_spans(["0-2,5"], 20, SUM, finals=True) == [(-6, -6), (-3, -1)]
    with pytest.raises(BadInput, match="sum is a final task, which is ordered as a whole"):
        job_spans(["2"], 20, SUM)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted), min_size=1), st.randoms())
def test_each_job_is_there_once_and_in_order(ranges, random):
    texts = [f"{low}-{high}" if low < high or random.random() < 0.5 else f"{low}" for low, high in ranges]
    cut = random.randint(0, len(texts))
    spans = job_spans([one for one in (",".join(texts[:cut]), *texts[cut:]) if one], 100)
    assert [job for low, high in spans for job in range(low, high + 1)] == sorted({job for low, high in ranges for job in range(low, high + 1)})
    assert job_spans([jobs_text([span]).split()[1] for span in spans], 100) == spans
