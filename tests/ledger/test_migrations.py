"""A new ledger and one that was brought up from the first version are the same."""

import re
import sqlite3

import pytest

from icp.ledger import db as ledger_db
from icp.ledger.db import open_ledger

MIGRATIONS = sorted((ledger_db._HERE / "migrations").glob("*.sql"))


def shape(db):
    """Tables with their columns, indexes and triggers with their text, whatever its blanks and comments."""
    found = {}
    for kind, name, text in db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall():
        if kind == "table":
            columns = sorted(tuple(row[1:]) for row in db.execute(f"PRAGMA table_info({name})").fetchall())
            found[name] = (columns, "WITHOUT ROWID" in text, sorted(re.findall(r"CHECK \(.*\)", text)))
        else:
            found[name] = " ".join(re.sub(r"--.*", "", text).split())
    return found


def test_the_schema_is_all_migrations_in_order(tmp_path):
    new = open_ledger(tmp_path / "new.sqlite", create=True)
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for path in MIGRATIONS:
        old.executescript(path.read_text())
    old.executescript(ledger_db.triggers())
    assert len(MIGRATIONS) == ledger_db.VERSION
    assert shape(new.db) == shape(old)
    old.close()
    new.close()


@pytest.mark.parametrize("version", range(1, ledger_db.VERSION))
def test_an_older_ledger_is_opened_and_brought_up(tmp_path, version):
    path = tmp_path / "old.sqlite"
    old = sqlite3.connect(path)
    for one in MIGRATIONS[:version]:
        old.executescript(one.read_text())
    older = ledger_db.triggers().replace("RAISE(ABORT, 'file: no such change of state')", "RAISE(ABORT, 'an older table')")
    assert "an older table" in older
    old.executescript(older + f"PRAGMA user_version = {version};")
    old.execute("INSERT INTO meta VALUES ('uuid', 'x')")
    old.commit()
    old.close()
    new = open_ledger(tmp_path / "new.sqlite", create=True)
    ledger = open_ledger(path)
    assert shape(ledger.db) == shape(new.db)
    ledger.close()
    new.close()
