"""What a check of a site makes of a job that is gone without a word."""

from __future__ import annotations

import pytest

from icp.config import load
from icp.engine.canary import Check, Stopped
from icp.model.batch import Known
from icp.places import places


def gone(scheduler: str, known: Known | None) -> Stopped:
    places().config.write_text(f'[site.there]\nhost = "there"\nscheduler = "{scheduler}"\nroot = "/data/icp"\n')
    config = load()
    check = Check(config, config.sites["there"], lambda step: None)
    check.record["missing"] = 0.0  # since long ago
    with pytest.raises(Stopped) as caught:
        check._waits({} if known is None else {check.pilot: known}, {})
    return caught.value


def test_job_that_a_routing_queue_dropped_is_told_from_a_node_that_sees_nothing() -> None:
    # OpenPBS: taken with an id, and unknown at once, to the history too
    dropped = gone("pbs", None)
    assert "no queue behind a routing queue took it" in str(dropped)
    assert "qstat -Qf" in str(dropped)
    # one that is known to have ended did run
    for stopped in (gone("pbs", Known("ended", "finished", 0, "7.pbs1")), gone("slurm", None)):
        assert "its node does not see that directory" in str(stopped)
        assert "routing" not in str(stopped)
