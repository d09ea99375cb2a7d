"""What a site's pilots want shipped and cannot be fetched: the site is paused with the reason, and goes on when a person says so."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icp import config
from icp.engine.submission import prepare, submit
from icp.engine.tick import Engine
from icp.ledger import sites
from icp.ledger.db import open_ledger


def test_a_site_goes_on_after_resume_without_another_engine(tmp_path: Path) -> None:
    data = b"#!/bin/sh\nexit 1\n"
    shipped = tmp_path / "parrot_run"
    (tmp_path / "config.toml").write_text(
        "[site.s]\npilot.idle = 1\n[site.s.software]\n"
        f'parrot_run = "{shipped.as_uri()}"\nparrot_run_sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
    )
    (tmp_path / "d.toml").write_text('[task.a]\ncommand = "true"\n')
    loaded = config.load({**os.environ, "ICP_HOME": str(tmp_path)})
    ledger = open_ledger(loaded.ledger, create=True, now=time.time())
    ledger.take_lease(time.time())
    submit(ledger, prepare(tmp_path / "d.toml", sites=loaded.sites.values()), time.time())
    engine = Engine(ledger, loaded)

    def one(query: str) -> Any:
        return ledger.db.execute(query).fetchone()[0]

    def until(wanted: Callable[[], Any]) -> Any:
        end = time.monotonic() + 60
        while not wanted():
            assert time.monotonic() < end, one("SELECT paused FROM site")
            engine.tick()
            time.sleep(0.1)
        return wanted()

    def resume() -> None:
        with ledger.write() as db:
            sites.resume(db, 1)

    try:
        assert "parrot_run cannot be fetched" in until(lambda: one("SELECT paused FROM site"))
        shipped.write_bytes(b"other")
        resume()
        assert "has sha256" in until(lambda: one("SELECT paused FROM site"))
        shipped.write_bytes(data)
        resume()
        until(lambda: one("SELECT count(*) FROM dataset WHERE state = 2"))
        assert one("SELECT paused FROM site") is None
        until(lambda: not one("SELECT count(*) FROM pilot WHERE live = 1"))
    finally:
        engine.close()
        ledger.close()
