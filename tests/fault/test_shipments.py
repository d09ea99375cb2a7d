"""What a site's pilots want shipped and cannot be fetched: the site is paused with the reason, and goes on when a person says so."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from web import Web

from icp import config
from icp.commands.reasons.sites import of_site
from icp.engine.submission import prepare, submit
from icp.engine.tick import Engine
from icp.ledger import sites
from icp.ledger.control import Control
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


def test_ticks_go_on_while_something_is_fetched_and_its_site_begins_when_it_is_here(tmp_path: Path) -> None:
    data, answer = b"#!/bin/sh\nexit 1\n", threading.Event()

    class Held(dict[str, bytes]):
        def get(self, path: str, other: Any = None) -> Any:
            answer.wait(100)
            return data

    web = Web()
    web.files = Held()
    (tmp_path / "config.toml").write_text(
        f'[site.s]\nroot = "{tmp_path}/s"\npilot.idle = 1\n[site.s.software]\nparrot_run = "{web.url("/parrot_run")}"\n'
        f'parrot_run_sha256 = "{hashlib.sha256(data).hexdigest()}"\n[site.t]\nroot = "{tmp_path}/t"\npilot.idle = 1\n'
    )
    (tmp_path / "d.toml").write_text('jobs = 3\n[task.a]\ncommand = "true"\n')
    loaded = config.load({**os.environ, "ICP_HOME": str(tmp_path)})
    ledger = open_ledger(loaded.ledger, create=True, now=time.time())
    ledger.take_lease(time.time())
    number = submit(ledger, prepare(tmp_path / "d.toml", sites=loaded.sites.values()), time.time())
    engine = Engine(ledger, loaded)

    def until(query: str) -> None:
        end = time.monotonic() + 60
        while not ledger.db.execute(query).fetchone()[0]:
            assert time.monotonic() < end, query
            engine.tick()
            time.sleep(0.1)

    try:
        until("SELECT count(*) FROM dataset WHERE state = 2")
        assert engine.sites["s"].shipped is None and ledger.db.execute("SELECT count(*) FROM pilot WHERE site = 1").fetchone()[0] == 0
        (why,) = of_site(ledger.db, loaded, "s", time.time()) or ()
        assert f"submits no pilot before {web.url('/parrot_run')} is fetched" in why.sentence
        answer.set()
        engine.provisions.wait()
        with ledger.write() as db:
            db.execute("UPDATE dataset SET sites = '[\"s\"]'")
        Control(ledger, engine.definitions, number, time.time()).reset_jobs(0, 2)
        until("SELECT count(*) FROM dataset WHERE state = 2")
        assert ledger.db.execute("SELECT count(*) FROM attempt WHERE site = 1 AND state = 5").fetchone()[0] == 3
        until("SELECT NOT count(*) FROM pilot WHERE live = 1")
    finally:
        answer.set()
        engine.close()
        ledger.close()
        web.close()
