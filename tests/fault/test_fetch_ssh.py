"""Files by ssh: what the remote shell runs is real, what carries it is a stand-in that breaks where it is told to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from icp.pilot.fetch import Limits, Transfers, Want
from icp.pilot.problem import Problem

pytestmark = pytest.mark.long

DATA = b"two hands, ten fingers\n\0\xff!"
NAME = "it's a \"file\" $HOME `id` \\ é%"

SSH = """\
#!/bin/sh
# the words before the command are options and the host
echo "$@" >> {root}/calls
for last do :; done
while read -r cut <&3; do
    sed -i 1d {root}/cuts
    case $cut in
        refused) echo "ssh: connect to host far: Connection refused" >&2; exit 255 ;;
        denied) echo "me@far: Permission denied (publickey)." >&2; exit 255 ;;
        noise*) echo "welcome to far"; echo "beware" >&2; break ;;
        in*) head -c "${{cut#in}}" | sh -c "$last"; exit 255 ;;
        out*) sh -c "$last" | head -c "${{cut#out}}"; exit 255 ;;
    esac
done 3< {root}/cuts
exec sh -c "$last"
"""


class Hurried(Limits):
    tries, pauses = 4, (0.0,)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``far("out3", "refused")``: what goes wrong next; the calls since then."""
    stand_in = tmp_path / "bin" / "ssh"
    stand_in.parent.mkdir()
    stand_in.write_text(SSH.format(root=tmp_path))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    (tmp_path / "far").mkdir()

    def plan(*cuts: str) -> list[str]:
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        (tmp_path / "calls").write_text("")
        (tmp_path / "cuts").write_text("".join(one + "\n" for one in cuts))
        return calls

    plan()
    return plan


@pytest.fixture
def transfers(tmp_path: Path) -> Transfers:
    return Transfers(None, str(tmp_path / "during"), Hurried())


def url(path: Path) -> str:
    from urllib.parse import quote

    return "ssh://me@far:2222" + quote(str(path))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("known", [False, True])
def test_cut_at_each_byte_it_goes_on_there(far: Callable[..., list[str]], transfers: Transfers, tmp_path: Path, known: bool) -> None:
    source = tmp_path / "far" / NAME
    source.write_bytes(DATA)
    head = len(f"\nICP-BEGIN {len(DATA)} {sha(DATA)}\n")
    for cut in range(head + len(DATA)):
        far("noise" if cut % 2 else f"out{cut}", f"out{cut}")
        told = transfers.get(Want(url(source), sha(DATA) if known else None), str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == DATA and told["sha256"] == sha(DATA)
        (tmp_path / "got").unlink()
    far(f"out{head + 5}")
    transfers.get(Want(url(source)), str(tmp_path / "got"))
    first, second = far()
    assert "-p 2222 me@far" in first and "tail -c +1 " in first and "tail -c +6 " in second


def test_a_file_that_changed_is_never_spliced(far: Callable[..., list[str]], tmp_path: Path) -> None:
    source = tmp_path / "far" / "changing"
    source.write_bytes(DATA)
    head = len(f"\nICP-BEGIN {len(DATA)} {sha(DATA)}\n")

    class Changing(Hurried):
        @property
        def pauses(self) -> tuple[float, ...]:  # type: ignore[override]
            source.write_bytes(DATA[::-1])
            return (0.0,)

    for cut in range(1, len(DATA)):
        source.write_bytes(DATA)
        far(f"out{head + cut}")
        Transfers(None, str(tmp_path / "during"), Changing()).get(Want(url(source)), str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == DATA[::-1]
        (tmp_path / "got").unlink()


def test_what_is_wrong_there_is_said(far: Callable[..., list[str]], transfers: Transfers, tmp_path: Path) -> None:
    (tmp_path / "far" / "x").write_bytes(DATA)
    for cuts, path, words, calls in (
        ([], "absent", "no such file", 1), (["denied"], "x", "Permission denied", 1), (["refused"] * 9, "x", "Connection refused", 4),
    ):  # fmt: skip
        far(*cuts)
        with pytest.raises(Problem, match=words) as caught:
            transfers.get(Want(url(tmp_path / "far" / path)), str(tmp_path / "got"))
        assert caught.value.kind == "stage" and url(tmp_path / "far" / path) in str(caught.value)
        assert len(far()) == calls
    with pytest.raises(Problem, match=sha(DATA)):
        transfers.get(Want(url(tmp_path / "far" / "x"), sha(b"")), str(tmp_path / "got"))
    for wrong in ("ssh://-oProxyCommand=x/y", "ssh://far", "ssh://far/folder/", "ssh://far:port/x"):
        with pytest.raises(Problem, match="it is no ssh://"):
            transfers.get(Want(wrong), str(tmp_path / "got"))
    assert not (tmp_path / "got").exists()


def test_stored_whole_or_not_at_all(far: Callable[..., list[str]], transfers: Transfers, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "far" / "new" / NAME
    source.write_bytes(DATA)
    want = Want(url(target), sha(DATA), size=len(DATA))
    for cut in range(len(DATA)):
        far(f"in{cut}")
        assert transfers.put(str(source), want)["tries"] == 2
        assert target.read_bytes() == DATA and os.listdir(target.parent) == [target.name]
        target.unlink()
    far(*["in3"] * 9)
    with pytest.raises(Problem) as caught:
        transfers.put(str(source), want)
    assert sha(DATA) in str(caught.value) and sha(DATA[:3]) in str(caught.value) and url(target) in str(caught.value)
    assert os.listdir(target.parent) == []
    far()
    with pytest.raises(Problem, match="is a directory"):
        transfers.put(str(source), Want(url(target.parent), sha(DATA), size=len(DATA)))
    with pytest.raises(Problem, match="given up"):
        transfers.put(str(source), want, lambda: True)
    assert os.listdir(target.parent) == []
