"""Wrong steering files give the mistakes that stand in tests/golden/dsl: all of them, each with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icp.dsl.disk import Disk
from icp.dsl.steering import parse
from icp.errors import BadInput

GOLDEN = Path(__file__).parent.parent / "golden" / "dsl"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.toml")), ids=lambda file: file.stem)
def test_every_mistake_has_its_line(file: Path) -> None:
    with pytest.raises(BadInput) as caught:
        parse(file.read_text(), file.name, Disk(GOLDEN))
    text = "\n".join([caught.value.message, *caught.value.mistakes]) + "\n"
    golden = file.with_suffix(".txt")
    if os.environ.get("ICP_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert len(set(caught.value.mistakes)) == len(caught.value.mistakes)


def test_a_dozen_different_mistakes_give_more_than_a_dozen_messages() -> None:
    assert len((GOLDEN / "dozen.txt").read_text().splitlines()) > 12
