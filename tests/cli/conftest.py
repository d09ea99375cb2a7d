"""What tests of commands share: a ledger that is built row by row, and commands in this process."""

import os
from pathlib import Path

import pytest

from icp import cli
from icp.ledger.check import check
from tests.ledger.build import World


@pytest.fixture
def world():
    """The ledger of this ICP_HOME; it must be sound in the end."""
    home = Path(os.environ["ICP_HOME"])
    one = World(home, path=home / "ledger.sqlite")
    yield one
    assert check(one.ledger) == []
    one.close()


@pytest.fixture
def run(capsys):
    """``run("status", code=0)`` -> what it printed."""

    def call(*words, code=0):
        assert cli.main(list(words)) == code, capsys.readouterr().err
        said = capsys.readouterr()
        return said.err if code else said.out

    return call
