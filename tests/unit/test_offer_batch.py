"""What each batch system tells a pilot of its share of a node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icp.pilot import offer

AD = 'AddressV1 = "{[ p=\\"primary\\" ]}"\nCpus = 1\nMemory = 2048\nGPUs = {gpus}\nName = "slot1_1@w1"\n'
SAID = (
    "SLURM_JOB_ID", "PBS_JOBID", "JOB_ID", "LSB_JOBID", "SLURM_CPUS_ON_NODE", "NCPUS", "PBS_NCPUS", "PBS_NUM_PPN", "NSLOTS", "LSB_MCPU_HOSTS",
    "PBS_GPUFILE", "CUDA_VISIBLE_DEVICES", "SGE_GPU", "SGE_HGR_gpu", "SGE_HGR_gpus", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "_CONDOR_MACHINE_AD", "_CONDOR_SCRATCH_DIR",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SAID:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(offer, "_cgroup_cpus", lambda: None)
    monkeypatch.setattr(offer, "_cgroup_memory", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


@pytest.mark.parametrize("said", [
    {"JOB_ID": "7", "NSLOTS": "4"}, {"PBS_JOBID": "0.pbs1", "NCPUS": "4"}, {"PBS_JOBID": "0.trq", "PBS_NUM_PPN": "4"},
    {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}, {"LSB_JOBID": "7", "LSB_MCPU_HOSTS": f"other 8 {os.uname().nodename} 4"},
])  # fmt: skip
def test_cpus_are_what_the_batch_system_gave(said: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert offer.cpus(None) == 64
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert offer.cpus(None) == 4
    assert offer.cpus(2) == 2


def test_variables_of_no_batch_job_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSLOTS", "4")
    assert offer.cpus(None) == 64


def condor(where: Path, monkeypatch: pytest.MonkeyPatch, gpus: str, assigned: str = "") -> None:
    text = AD.replace("{gpus}", gpus)
    (where / "ad").write_text(text + (f'AssignedGPUs = "{assigned}"\n' if assigned else ""))
    monkeypatch.setenv("_CONDOR_MACHINE_AD", str(where / "ad"))
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(where))


def test_condor_tells_in_its_machine_ad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    condor(tmp_path, monkeypatch, "2", "GPU-12ab,GPU-34cd")
    assert offer.cpus(None) == 1
    assert offer.memory(None, 1) == 2048 << 20
    assert offer.gpus(None) == ["GPU-12ab", "GPU-34cd"]


def test_condor_without_gpus_names_a_device_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    condor(tmp_path, monkeypatch, "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "10000")
    assert offer.gpus(None) == []


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("CUDA_VISIBLE_DEVICES", "0,1", ["0", "1"]), ("SGE_GPU", "0 3", ["0", "3"]), ("SGE_HGR_gpu", "2", ["2"]), ("CUDA_VISIBLE_DEVICES", "NoDevFiles", []),
    ("CUDA_VISIBLE_DEVICES", "-1", []), ("CUDA_VISIBLE_DEVICES", "10000", []), ("ROCR_VISIBLE_DEVICES", "0", ["0"]),
])  # fmt: skip
def test_gpus_by_their_variables(name: str, value: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert offer.gpus(None) == wanted


def test_gpus_that_are_hidden_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
    assert offer.gpus(None) == []


def test_torque_lists_gpus_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.uname().nodename.split(".")[0]
    (tmp_path / "gpus").write_text(f"{own}-gpu1\nother-gpu0\n{own}-gpu3\n")
    monkeypatch.setenv("PBS_GPUFILE", str(tmp_path / "gpus"))
    assert offer.gpus(None) == ["1", "3"]
