"""Whatever a server does: the right bytes, or a failure that names the file and what is wrong with it; never a wrong file."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web import Plan, Web

from icp.pilot.fetch import Limits, Transfers, Want
from icp.pilot.problem import Problem

DATA = b"It was the best of times,\r\n0\r\n\r\nit was the worst of times"
OTHER = b"it was the age of wisdom, it was the age of foolishness, it was the epoch"[: len(DATA)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hurried(Limits):
    tries, pauses, silent, slow, slow_bytes = 4, (0.0,), 5.0, 0.3, 1000


@pytest.fixture
def web() -> Iterator[Web]:
    served = Web()
    served.files["/in.i3"] = DATA
    yield served
    served.close()


@pytest.fixture
def transfers(tmp_path: Path) -> Transfers:
    return Transfers(None, str(tmp_path / "during"), Hurried())


def fetched(transfers: Transfers, want: Want, tmp_path: Path) -> tuple[bytes | None, str]:
    """(what came, what was said); nothing else is left behind."""
    target, said = tmp_path / "target", ""
    try:
        told = transfers.get(want, str(target))
        assert told["sha256"] == sha(target.read_bytes())
        assert told["bytes"] == target.stat().st_size
    except Problem as problem:
        assert problem.kind == "stage"
        said = str(problem)
    found = target.read_bytes() if target.exists() else None
    target.unlink(missing_ok=True)
    assert [name for name in os.listdir(tmp_path) if name != "during"] == []
    assert (tmp_path / "during").is_dir() and os.listdir(tmp_path / "during") == []
    return found, said


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("known", [False, True])
def test_cut_at_each_byte_it_goes_on_there(web: Web, transfers: Transfers, tmp_path: Path, framing: str, known: bool) -> None:
    for cut in range(len(DATA)):
        web.requests.clear()
        web.plans = [Plan(cut=cut, framing=framing)]
        found, _ = fetched(transfers, Want(web.url("/in.i3"), sha(DATA) if known else None), tmp_path)
        assert found == DATA
        ranges = [request.headers.get("range") for request in web.requests]
        if framing == "length":
            assert ranges == [None, f"bytes={cut}-" if cut else None]
        else:
            assert len(ranges) == 2


@pytest.mark.parametrize("second", [
    Plan(body=OTHER, etag='"two"'),
    Plan(body=OTHER, etag='"two"', ignore_if_range=True),
    Plan(body=OTHER, etag=None, ignore_if_range=True),
    Plan(body=OTHER, etag=None, ranges=False),
], ids=["named", "named and gone on with", "unnamed and gone on with", "from its begin"])  # fmt: skip
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_changed_is_never_spliced(web: Web, transfers: Transfers, tmp_path: Path, second: Plan, known: bool) -> None:
    for cut in range(1, len(DATA)):
        web.plans = [Plan(cut=cut), second, Plan(body=second.body), Plan(body=second.body)]
        web.plan = Plan(body=second.body)
        found, said = fetched(transfers, Want(web.url("/in.i3"), sha(second.body or b"") if known else None), tmp_path)
        assert found == second.body, said


def test_a_server_that_goes_on_with_other_bytes_under_the_same_name_is_seen_by_the_checksum(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    for cut in range(1, len(DATA)):
        web.plans = [Plan(cut=cut), Plan(shift=1)]
        assert fetched(transfers, Want(web.url("/in.i3"), sha(DATA)), tmp_path)[0] == DATA


@pytest.mark.parametrize("mark", [{"etag": 'W/"weak"'}, {"etag": None, "modified": "Fri, 27 Nov 2026 16:00:00 GMT"}, {"etag": None}])
def test_without_a_name_for_its_bytes_a_file_is_fetched_anew(web: Web, transfers: Transfers, tmp_path: Path, mark: dict[str, str | None]) -> None:
    for cut in (1, 20, len(DATA) - 1):
        web.requests.clear()
        web.plans = [Plan(cut=cut, **mark), Plan(body=OTHER, ignore_if_range=True, **mark)]  # type: ignore[arg-type]
        assert fetched(transfers, Want(web.url("/in.i3")), tmp_path)[0] == OTHER
        assert [request.headers.get("range") for request in web.requests] == [None, None]


def test_a_date_and_a_checksum_are_enough_to_go_on(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    dated = {"etag": None, "modified": "Fri, 27 Nov 2026 16:00:00 GMT"}
    web.plans = [Plan(cut=20, **dated), Plan(**dated)]  # type: ignore[arg-type]
    assert fetched(transfers, Want(web.url("/in.i3"), sha(DATA)), tmp_path)[0] == DATA
    assert web.requests[1].headers["range"] == "bytes=20-"
    # the same date, and other bytes: seen in the end, and fetched anew
    web.requests.clear()
    web.plans = [Plan(cut=20, **dated), Plan(body=OTHER, **dated), Plan(body=OTHER, **dated)]  # type: ignore[arg-type]
    assert fetched(transfers, Want(web.url("/in.i3"), sha(OTHER)), tmp_path)[0] == OTHER
    assert [request.headers.get("range") for request in web.requests] == [None, "bytes=20-", None]


def test_without_a_length_a_cut_cannot_be_told_so_it_is_refused(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    for cut in [*range(len(DATA)), None]:
        web.plans = [Plan(framing="close", cut=cut, etag=None)]
        found, said = fetched(transfers, Want(web.url("/in.i3")), tmp_path)
        assert found is None and "sha256 or size" in said
        for want in (Want(web.url("/in.i3"), sha(DATA)), Want(web.url("/in.i3"), size=len(DATA)), Want(web.url("/in.i3"), md5=md5(DATA))):
            web.plans = [Plan(framing="close", cut=cut, etag=None)]
            assert fetched(transfers, want, tmp_path)[0] == DATA


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("shape", [
    {"body": OTHER}, {"body": DATA + b"x"}, {"body": DATA[:-1]}, {"body": b""}, {"body": DATA[:-1] + b"X"},
])  # fmt: skip
def test_wrong_bytes_are_told_with_both_checksums(web: Web, transfers: Transfers, tmp_path: Path, shape: dict[str, bytes]) -> None:
    web.plan = Plan(**shape)  # type: ignore[arg-type]
    url = web.url("/in.i3")
    found, said = fetched(transfers, Want(url, sha(DATA)), tmp_path)
    assert found is None and url in said and sha(DATA) in said and sha(shape["body"]) in said
    found, said = fetched(transfers, Want(url, md5=md5(DATA)), tmp_path)
    assert found is None and md5(DATA) in said and md5(shape["body"]) in said
    if len(shape["body"]) != len(DATA):
        found, said = fetched(transfers, Want(url, size=len(DATA)), tmp_path)
        assert found is None and str(len(DATA)) in said


@pytest.mark.parametrize("off", [-7, -1, 1, 1000])
def test_a_wrong_length_is_no_file(web: Web, transfers: Transfers, tmp_path: Path, off: int) -> None:
    web.plan = Plan(length=len(DATA) + off, ranges=False)
    found, said = fetched(transfers, Want(web.url("/in.i3"), sha(DATA)), tmp_path)
    assert found is None and web.url("/in.i3") in said
    if off > 0:
        found, said = fetched(transfers, Want(web.url("/in.i3")), tmp_path)
        assert found is None and f"behind {len(DATA)} of {len(DATA) + off} bytes" in said


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (401, 1), (410, 1), (500, 4), (502, 4), (503, 4), (429, 4)])
def test_what_a_server_refuses(web: Web, transfers: Transfers, tmp_path: Path, status: int, tries: int) -> None:
    web.plan = Plan(status=status)
    found, said = fetched(transfers, Want(web.url("/in.i3")), tmp_path)
    assert found is None and str(status) in said and web.url("/in.i3") in said
    assert len(web.requests) == tries
    web.plans, web.plan = [Plan(status=status)], Plan()
    assert (fetched(transfers, Want(web.url("/in.i3")), tmp_path)[0] == DATA) == (tries > 1)


def test_a_server_that_is_not_there_or_says_nothing(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    web.plans = [Plan(cut=-1), Plan(cut=-1)]
    assert fetched(transfers, Want(web.url("/in.i3")), tmp_path)[0] == DATA
    found, said = fetched(transfers, Want("http://127.0.0.1:9/in.i3"), tmp_path)
    assert found is None and "http://127.0.0.1:9/in.i3" in said


def test_a_slow_server_is_left_and_gone_on_with(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    web.plans = [Plan(trickle=0.02)]
    assert fetched(transfers, Want(web.url("/in.i3"), sha(DATA)), tmp_path)[0] == DATA
    assert int(web.requests[1].headers["range"][6:-1]) > 0
    web.plan = Plan(trickle=0.05, ranges=False)
    found, said = fetched(transfers, Want(web.url("/in.i3"), sha(DATA)), tmp_path)
    assert found is None and "bytes came in" in said


def test_what_is_given_up_ends(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    web.plan = Plan(trickle=0.01)
    with pytest.raises(Problem, match="given up"):
        transfers.get(Want(web.url("/in.i3")), str(tmp_path / "target"), lambda: len(web.requests) > 0)
    assert len(web.requests) == 1


def test_a_full_disk_is_an_error_of_the_disk(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("target.part"):
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        Transfers(None, str(tmp_path / "during"), Hurried()).get(Want(web.url("/in.i3")), str(tmp_path / "target"))
    assert os.listdir(tmp_path) == ["during"]


marks = st.sampled_from([{"etag": '"one"'}, {"etag": 'W/"one"'}, {"etag": None}, {"etag": None, "modified": "Fri, 27 Nov 2026 16:00:00 GMT"}])
faults = st.builds(
    lambda mark, **rest: Plan(**mark, **rest),
    marks,
    status=st.sampled_from([200, 200, 200, 200, 404, 500, 503]),
    body=st.sampled_from([None, None, OTHER, DATA[:-1], DATA + b"x"]),
    ranges=st.booleans(),
    ignore_if_range=st.booleans(),
    shift=st.sampled_from([0, 0, 1]),
    length=st.sampled_from([None, None, 0, 3, len(DATA), 500]),
    framing=st.sampled_from(["length", "chunked", "close"]),
    cut=st.one_of(st.none(), st.integers(-1, 120)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(faults, max_size=6), last=faults, how=st.sampled_from(["sha256", "md5"]))
def test_any_faults_give_the_right_bytes_or_none(web: Web, tmp_path: Path, plans: list[Plan], last: Plan, how: str) -> None:
    web.plans, web.plan = list(plans), last
    url = web.url("/in.i3")
    want = Want(url, sha(DATA)) if how == "sha256" else Want(url, md5=md5(DATA))
    found, said = fetched(Transfers(None, str(tmp_path / "during"), Hurried()), want, tmp_path)
    assert found == DATA or (found is None and url in said)


# --- outwards


def test_what_is_put_is_read_back(web: Web, transfers: Transfers, tmp_path: Path) -> None:
    source = tmp_path / "out.i3"
    source.write_bytes(DATA)
    want = Want(web.url("/out.i3"), sha(DATA), size=len(DATA))
    assert transfers.put(str(source), want)["tries"] == 1
    assert web.files["/out.i3"] == DATA
    web.plans = [Plan(damage=lambda data: data[:-1])]
    assert transfers.put(str(source), want)["tries"] == 2
    assert web.files["/out.i3"] == DATA
    web.plan = Plan(damage=lambda data: data[::-1])
    with pytest.raises(Problem) as caught:
        transfers.put(str(source), want)
    assert caught.value.kind == "stage"
    assert web.url("/out.i3") in str(caught.value) and sha(DATA) in str(caught.value) and sha(DATA[::-1]) in str(caught.value)
    assert "/out.i3" not in web.files
    web.plan = Plan(status=403)
    with pytest.raises(Problem, match="403"):
        transfers.put(str(source), want)


def test_files_of_the_node(transfers: Transfers, tmp_path: Path) -> None:
    source, target = tmp_path / "a b%.i3", tmp_path / "new" / "out.i3"
    source.write_bytes(DATA)
    url = "file://" + str(source).replace("%", "%25").replace(" ", "%20")
    transfers.get(Want(url, sha(DATA), md5(DATA), len(DATA)), str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == DATA
    want = Want(f"file://{target}", sha(DATA), size=len(DATA))
    transfers.put(str(source), want)
    assert target.read_bytes() == DATA and os.listdir(target.parent) == ["out.i3"]
    # nobody overwrites what counts with what was given up
    source.write_bytes(OTHER)
    with pytest.raises(Problem, match="given up"):
        transfers.put(str(source), Want(f"file://{target}", sha(OTHER), size=len(OTHER)), lambda: True)
    assert target.read_bytes() == DATA and os.listdir(target.parent) == ["out.i3"]
    for wrong in ("file://elsewhere/x", "file:///absent/x", f"file://{tmp_path}", "file:///"):
        with pytest.raises(Problem) as caught:
            transfers.get(Want(wrong), str(tmp_path / "not"))
        assert wrong in str(caught.value)
    with pytest.raises(Problem, match="is a directory"):
        transfers.put(str(source), Want(f"file://{target.parent}", sha(OTHER), size=len(OTHER)))


COPY = "import sys, shutil; shutil.copyfile(*[one.replace('odd://', '{root}/') for one in sys.argv[1:3]])"


@pytest.fixture
def odd(tmp_path: Path) -> Transfers:
    """A scheme of its own, by a command that copies."""
    command = [sys.executable, "-c", COPY.replace("{root}", str(tmp_path / "far"))]
    (tmp_path / "far").mkdir()
    return Transfers({"odd": {"get": [*command, "{url}", "{file}"], "put": [*command, "{file}", "{url}"]}}, str(tmp_path / "during"), Hurried())


def test_other_schemes_are_two_commands(odd: Transfers, tmp_path: Path) -> None:
    (tmp_path / "far" / "in.i3").write_bytes(DATA)
    odd.get(Want("odd://in.i3", sha(DATA)), str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == DATA
    odd.put(str(tmp_path / "got"), Want("odd://out.i3", sha(DATA), size=len(DATA)))
    assert (tmp_path / "far" / "out.i3").read_bytes() == DATA
    with pytest.raises(Problem) as caught:
        odd.get(Want("odd://absent"), str(tmp_path / "not"))
    assert "odd://absent" in str(caught.value) and "No such file" in str(caught.value)
    (tmp_path / "far" / "in.i3").write_bytes(OTHER)
    with pytest.raises(Problem, match=sha(OTHER)):
        odd.get(Want("odd://in.i3", sha(DATA)), str(tmp_path / "not"))
    assert not (tmp_path / "not").exists() and os.listdir(tmp_path / "during") == []


def test_a_command_runs_where_the_directory_of_the_agent_is_gone(odd: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far" / "in.i3").write_bytes(DATA)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    odd.get(Want("odd://in.i3", sha(DATA)), str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == DATA


def test_commands_that_are_absent_or_do_nothing_or_are_not_configured(tmp_path: Path) -> None:
    commands = {"lazy": {"get": ["true"], "put": ["true"]}, "away": {"get": ["icp-no-such-command", "{url}"]}, "half": {"get": ["true"]}}
    transfers = Transfers(commands, str(tmp_path / "during"), Hurried())
    source = tmp_path / "source"
    source.write_bytes(DATA)
    for url, words in {"lazy://x": "left no file", "away://x": "icp-no-such-command", "gsiftp://x": "transfer.gsiftp.get is not configured"}.items():
        with pytest.raises(Problem) as caught:
            transfers.get(Want(url), str(tmp_path / "not"))
        assert url in str(caught.value) and words in str(caught.value)
    for url, words in {"lazy://x": "left no file", "half://x": "transfer.half.put is not configured"}.items():
        with pytest.raises(Problem) as caught:
            transfers.put(str(source), Want(url, sha(DATA), size=len(DATA)))
        assert url in str(caught.value) and words in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["during", "source"]


def test_a_command_that_hangs_is_killed_when_nobody_wants_it(tmp_path: Path) -> None:
    marker = tmp_path / "began"
    transfers = Transfers({"slow": {"get": ["sh", "-c", f"touch {marker}; sleep 1000"]}}, str(tmp_path / "during"), Hurried())
    with pytest.raises(Problem, match="given up"):
        transfers.get(Want("slow://x"), str(tmp_path / "not"), marker.exists)
