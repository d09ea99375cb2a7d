"""Jobs that go straight to a site's batch system, and that nobody looks after (hides how a job is made to run by itself)."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.backends.base import Result, Unknown
from icp.backends.batch import system
from icp.backends.pilot_script import Body, pilot_body
from icp.backends.spool_client import SpoolClient, SpoolPlace, plain
from icp.config import Config, Site
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.engine.lines import transport
from icp.engine.shipments import used
from icp.engine.submission import Submission
from icp.errors import BadInput, Refused, Unreachable
from icp.ledger.files import job_folder
from icp.model.batch import NotSubmitted, Submitted, Wanted, batch_name
from icp.pilot.framing import frame

__all__ = ["MOST", "Sent", "Unmonitored"]

MOST = 1000
"""Jobs that are submitted so, at the most."""
AT_ONCE = 50
"""Jobs that one session submits."""
TIMEOUT = 600.0


@dataclass(slots=True)
class Sent:
    """What became of a submission: its folder at the site, and job -> the batch system's id."""

    folder: str
    jobs: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    """job -> why it was not submitted, or why nobody can tell"""


class Unmonitored:
    """One dataset at one site. BadInput or Refused before anything is sent."""

    def __init__(self, config: Config, site: Site, submission: Submission) -> None:
        self.config, self.site, self.submission = config, site, submission
        steering = submission.steering
        self.jobs = steering.jobs.count
        if self.jobs > MOST:
            raise Refused(f"{self.jobs:,} jobs are more than the {MOST:,} that nobody looks after", "without --unmonitored there is no limit")
        carried = [name for name, one in used(steering).items() if one.tarballs]
        if carried or site.shipped:
            what = f"the tarballs of software.{carried[0]}" if carried else f"what site.{site.name} wants shipped"
            raise Refused(f"--unmonitored ships no software: {what} would not be there", "without --unmonitored it is shipped; or use what the site has")
        if steering.jobs.source:
            raise Refused("--unmonitored sends no file of another dataset along, and jobs.from makes jobs of them", "without --unmonitored they are sent")
        most = site.pilot.cpus or 1
        if site.scheduler == "none" and self.jobs > most:
            raise Refused(
                f"site {site.name} has no batch system: it would begin {self.jobs} jobs at once, and {most} is what site.{site.name}.pilot.cpus allows",
                "without --unmonitored they run one after the other",
            )
        self.renderers = [(task, Renderer(steering, task)) for task in steering.tasks]
        self.batch = system(site.scheduler)
        base = site.root or config.places.state / "spool"
        here = site.host is None
        self.place = SpoolPlace.install(base, "unmonitored") if here else SpoolPlace.away(base, "unmonitored", site.python)
        self.id = secrets.token_hex(8)
        self.folder = f"{self.place.root}/{self.id}"

    def send(self) -> Sent:
        """Submit them, some in a session; stops at the first session that does not go well."""
        sent = Sent(self.folder)
        client = SpoolClient(transport(self.config, self.site), self.site.env)
        pack = self.submission.pack
        for first in range(0, self.jobs, AT_ONCE):
            numbers = range(first, min(self.jobs, first + AT_ONCE))
            frames = [frame("pack", {}, pack[1])] if pack is not None and not first else []
            frames += [self._job(number) for number in numbers]
            outcome = client.program(self.place, ["submit", "--root", self.folder], b"".join([*frames, frame("end", {})]), TIMEOUT)
            self._understand(outcome, numbers, sent)
            if sent.failed:
                break
        if not sent.jobs and sent.failed:
            why = next(iter(sent.failed.values()))
            if isinstance(outcome, Unknown):
                raise Unreachable(f"site {self.site.name}: {why}", f"look there for jobs named icp-{self.id[:8]}-...: they may be there")
            raise BadInput(f"site {self.site.name}: nothing was submitted: {why}")
        return sent

    def _understand(self, outcome: Result | Unknown, numbers: Sequence[int], sent: Sent) -> None:
        told: dict[str, dict[str, Any]] = {}
        for line in outcome.out.decode("utf-8", "replace").splitlines():
            try:
                row = json.loads(line)
                told[str(row["job"])] = row
            except (ValueError, KeyError, TypeError):
                continue
        ended = _why(outcome)
        for number in numbers:
            row = told.get(self._name(number), {})
            receipt = self.batch.receipt(row.get("rc"), str(row.get("out") or ""), str(row.get("err") or ""), self.site.options) if row else None
            if isinstance(receipt, Submitted):
                sent.jobs[number] = receipt.job
            elif isinstance(receipt, NotSubmitted):
                sent.failed[number] = f"{receipt.why} ({receipt.hint})"
            else:
                sent.failed[number] = ended if receipt is None else receipt.why

    def _name(self, number: int) -> str:
        return job_folder(number, self.jobs)

    def _job(self, number: int) -> bytes:
        """The frame of one job: what its batch job is, and what that runs."""
        name, key = self._name(number), os.urandom(8).hex()
        folder = f"{self.folder}/{name}"
        attempts, need = self._attempts(number)
        spec = self.site.pilot
        wanted = Wanted(
            batch_name(self.id, key), folder, cpus=need["cpus"], memory=need["memory"], gpus=need["gpus"] or None, walltime=need["time"],
            partition=spec.partition, account=spec.account, qos=spec.qos, constraint=spec.constraint, options=self.site.options,
        )  # fmt: skip
        captured = self.batch.render(wanted)
        site = self.site
        body = Body(str(self.place.root), str(self.place.program), key, python=self.place.python, modules=site.modules, setup=site.setup, env=site.env,
                    scratch=site.scratch)  # fmt: skip
        job = {"attempts": attempts, "pack": f"{self.folder}/pack.tar", "transfer": dict(site.transfer), "software": dict(site.software)}
        files = {**captured.files, self.batch.body: pilot_body(body, ["alone", folder]), "job.json": plain(job).decode()}
        return frame("job", {"job": name, "argv": list(captured.argv)}, json.dumps(files).encode())

    def _attempts(self, number: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """The tasks of a job in their order, and what a batch job needs that runs one after the other."""
        steering, seed = self.submission.steering, self.submission.seed
        context = JobContext(steering.name, seed, number, self.jobs, steering.jobs.row(number))
        site = SiteContext(self.site.name, {"CPU": True, **self.site.attributes}, self.site.system)
        pack = [] if self.submission.pack is None else [hashlib.sha256(self.submission.pack[1]).hexdigest()]
        keys = {task.name: os.urandom(8).hex() for task in steering.tasks}
        whole = {"cpus": 1, "memory": 0, "gpus": 0, "time": 0}
        attempts = []
        for task, renderer in self.renderers:
            need, rendered = renderer.need(context), renderer.render(context, site)
            outputs = {parent.name: [one.name for one in parent.outputs] for parent in steering.tasks}
            attempts.append({
                "a": keys[task.name], "k": os.urandom(8).hex(), "dataset": steering.name, "job": number, "task": task.name, "try": 1, "after": [],
                "cpus": need.cpus, "memory": need.memory, "disk": need.disk, "gpus": need.gpus, "time": need.time, "files": pack,
                "reads": [[keys[one.task], outputs[one.task].index(one.output)] for one in task.inputs], "in": rendered.fetch,
                "steps": rendered.steps, "out": rendered.out, **rendered.environments,
            })  # fmt: skip
            for kind in ("cpus", "memory", "gpus"):
                whole[kind] = max(whole[kind], getattr(need, kind))
            whole["time"] += need.time
        return attempts, whole


def _why(outcome: Result | Unknown) -> str:
    if isinstance(outcome, Unknown):
        return outcome.why
    lines = outcome.err.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else f"exit {outcome.code}"


