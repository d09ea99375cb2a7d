"""`icp convert` on the command line: where the text goes, what is listed, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "iceprod"


def test_the_text_is_printed_and_what_to_look_at_listed(icp: Callable[..., Any]) -> None:
    done = icp("convert", str(EXAMPLES / "gpu-merge.json"), "--jobs", "2000")
    assert done.rc == 0
    assert done.out == (EXAMPLES / "gpu-merge.toml").read_text()
    *notes, last = done.err.splitlines()
    assert all(note.startswith(("CHECK: ", "NOT CONVERTED: ")) for note in notes)
    assert last == "7 tasks converted; 2 things NOT CONVERTED, 2 to CHECK."


def test_a_file_is_written_once(icp: Callable[..., Any], tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    words = ("convert", str(EXAMPLES / "simulation.xml"), "-o", str(new))
    done = icp(*words)
    assert (done.rc, done.out) == (0, "")
    assert f"Next: icp validate {new}" in done.err
    before = new.read_text()
    again = icp(*words, "--jobs", "7")
    assert again.rc == 4
    assert "is there already" in again.err
    assert new.read_text() == before
    assert icp(*words, "--jobs", "7", "--force").rc == 0
    assert "jobs = 7\n" in new.read_text()


def test_json_has_the_list(icp: Callable[..., Any], tmp_path: Path) -> None:
    said = json.loads(icp("convert", str(EXAMPLES / "simulation.xml"), "--json").out)
    assert (said["tasks"], said["output"]) == (5, None)
    assert {note["word"] for note in said["notes"]} == {"CHECK", "NOT CONVERTED"}
    assert said["text"].startswith("# Converted from simulation.xml")
    new = tmp_path / "n.toml"
    assert json.loads(icp("convert", str(EXAMPLES / "simulation.xml"), "--json", "-o", str(new)).out)["text"] is None
    assert new.read_text() == said["text"]


def test_what_is_wrong_is_a_sentence_and_an_exit_code(icp: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<configuration>")
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    for words, code, part in [
        (("none.xml",), 3, "no file"), ((str(tmp_path / "bad.xml"),), 2, "no XML"), ((str(tmp_path / "bytes.json"),), 2, "UTF-8"),
        ((str(tmp_path),), 2, "cannot be read"), ((str(EXAMPLES / "simulation.xml"), "-o", str(tmp_path / "no" / "x")), 2, "cannot be written"),
    ]:  # fmt: skip
        done = icp("convert", *words)
        assert done.rc == code
        assert part in done.err.splitlines()[0]
        assert "Traceback" not in done.err
