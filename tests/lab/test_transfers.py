"""Files by URL on the workers of a real cluster: by real ssh and http, kept in a cache that two nodes fill at once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from icp.cli import main
from icp.places import places
from tests.lab.sites import LabSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

JOBS = 8
CONFIG = """\
[ssh]
config = "{config}"
[run]
pause = 1
[site.s]
host = "{name}"
scheduler = "slurm"
root = "/home/alice/.icp/transfers"
[site.s.pilot]
cpus = 8
walltime = "10 min"
max = 2
max_pending = 2
idle = 20
"""
STEERING = """\
jobs = {jobs}
[task.t]
inputs  = [{{ url = "ssh://far/~/data/gcd.i3", sha256 = "{gcd}" }}, "ssh://far/home/alice/data/in%20$args(job).i3", "http://127.0.0.1:{port}/{path}.txt"]
command = "sleep 2; cat gcd.i3 'in '$args(job).i3 {path}.txt > out.i3; echo $SLURMD_NODENAME > where.txt"
outputs = [{{ name = "out.i3", url = "ssh://far/~/made/$args(job)/" }}, "where.txt"]
resources = {{ cpus = 8, memory = "100 MB", disk = "100 MB", time = "2 min" }}
"""
PORT = 18391


@pytest.fixture
def data(nsa: LabSite) -> Iterator[bytes]:
    """Alice can ssh from a node to the login node, named ``far``; her data lie there; a web server runs beside them."""
    client = nsa.lab.run / "client"
    host = next(line.split()[1] for line in (client / "ssh_config").read_text().split(f"Host {nsa.name}\n")[1].splitlines() if "HostName" in line)
    key = (nsa.lab.run / "client" / "known_hosts").read_text()
    config = f"Host far\n HostName {host}\n User alice\n IdentityFile ~/.ssh/id_lab\n UserKnownHostsFile ~/.ssh/known_lab\n HostKeyAlias {nsa.name}\n"
    known = "".join(f"{nsa.name} {line.split(' ', 1)[1]}\n" for line in key.splitlines() if line.split()[0] in (nsa.name, host))
    nsa.ssh("mkdir -p -m 700 .ssh; cat > .ssh/id_lab; chmod 600 .ssh/id_lab", (client / "id_ed25519").read_text())
    nsa.ssh("cat > .ssh/config", config)
    nsa.ssh("cat > .ssh/known_lab", known)
    gcd = b"geometry\n" * 100_000
    nsa.ssh("rm -rf data made; mkdir data; cat > data/gcd.i3", gcd.decode())
    nsa.ssh(f"for job in $(seq 0 {JOBS - 1}); do echo events of job $job > \"data/in $job.i3\"; done; echo web > data/web.txt")
    started = nsa.ssh(f"cd data; setsid python3 -m http.server --bind 127.0.0.1 {PORT} > /dev/null 2>&1 < /dev/null & echo $!").stdout.strip()
    yield gcd
    nsa.ssh(f"kill {started}; rm -rf .ssh/config .ssh/id_lab .ssh/known_lab data made")


def test_workers_fetch_and_store(nsa: LabSite, data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = places().config
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(CONFIG.format(config=nsa.lab.ssh_config, name=nsa.name))
    steering = tmp_path / "far.toml"
    steering.write_text(STEERING.format(jobs=JOBS, gcd=hashlib.sha256(data).hexdigest(), port=PORT, path="web"))
    assert main(["submit", str(steering)]) == 0
    main(["run", "--until-done"])
    how: Counter[str] = Counter()
    for job in range(JOBS):
        capsys.readouterr()
        assert main(["show", "far", "--job", str(job), "--json"]) == 0
        last = json.loads(capsys.readouterr().out)["tasks"][0]["attempts"][-1]
        assert last["state"] == "ok", last["text"]
        found = {one["name"]: one for one in last["transfers"]}
        assert set(found) == {"gcd.i3", f"in {job}.i3", "web.txt", "out.i3"}
        how[found["gcd.i3"]["how"]] += 1
        made = nsa.ssh(f"sha256sum < made/{job}/out.i3").stdout.split()[0]
        assert made == found["out.i3"]["sha256"] == hashlib.sha256(data + b"events of job %d\n" % job + b"web\n").hexdigest()
    assert how == {"fetched": 1, "cache": JOBS - 1}
    hosts = {path.read_text() for path in (tmp_path / "outputs" / "far").glob("*/where.txt")}
    assert len(hosts) == 2
