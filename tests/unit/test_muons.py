"""The example examples/muons: its physics against published intensities, its bytes, its table and its plot."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "muons"
SCRIPTS = ("muonlib.py", "ice.py", "surface.py", "propagate.py", "detect.py", "summary.py", "merge.py", "svgplot.py")
RESULTS = ("depth_intensity.csv", "depth_intensity.json", "depth_intensity.svg")
GRID = (1.5, 2.0, 2.5)  # km w.e.


@pytest.fixture(scope="module")
def physics():
    """The example's own modules, imported from where they lie, and out of the way again."""
    names = ("muonlib", "make_reference", "svgplot", "merge")
    sys.path.insert(0, str(EXAMPLE))
    try:
        modules = {name: __import__(name) for name in names}
        yield modules
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in names:
            sys.modules.pop(name, None)


def intensities(lib, medium, seed, muons=6000):
    """Vertical intensity and (at most) its relative error at GRID, with the example's own weights."""
    rng = random.Random(seed)
    sums = [[0.0, 0.0] for _ in GRID]
    depths = [depth * lib.KM_WE for depth in GRID]
    for chance, _ in lib.lattice(rng, muons):
        energy, density = lib.power_law(chance, 1.25 * lib.KM_WE)
        weight = lib.surface_flux(energy, 1.0) / density
        for total, _ in zip(sums, medium.propagate(energy, depths, rng)[0], strict=False):
            total[0] += weight
            total[1] += weight * weight
    return [(total / muons, math.sqrt(squares) / total) for total, squares in sums]


def published(modules, depth):
    """What the shipped table says at a depth in ice: (intensity of Mei and Hime, of Heisinger)."""
    merge = modules["merge"]
    table = merge.read_reference(str(EXAMPLE / "reference.csv"))
    return tuple(merge.published_at(table[source], depth) for source in ("mei-hime", "heisinger"))


def test_the_intensity_in_ice_agrees_with_the_published_ones_within_a_fifth(physics):
    lib = physics["muonlib"]
    for depth, (value, error) in zip(GRID, intensities(lib, lib.ice_medium(), 1, 12000), strict=True):
        assert error < 0.025
        for reference in published(physics, depth):
            assert abs(value / reference - 1.0) < 0.2, (depth, value, reference)


def test_the_intensity_in_rock_agrees_where_it_was_published(physics):
    lib, reference = physics["muonlib"], physics["make_reference"]
    for depth, (value, _) in zip(GRID, intensities(lib, lib.rock_medium(), 2), strict=True):
        assert abs(value / reference.heisinger(depth) - 1.0) < 0.12
        assert abs(value / reference.mei_hime(depth)[0] - 1.0) < 0.2


def test_the_reference_table_is_what_its_script_prints(physics, capsys):
    physics["make_reference"].main()
    assert capsys.readouterr().out == (EXAMPLE / "reference.csv").read_text()


def test_where_a_loss_is_called_hard_does_not_matter(physics):
    lib = physics["muonlib"]
    usual = intensities(lib, lib.ice_medium(), 3)
    finer = intensities(lib, lib.ice_medium(v_cut=0.005), 4, 4000)
    for (value, error), (other, other_error) in zip(usual, finer, strict=True):
        assert abs(value / other - 1.0) < 4.0 * math.hypot(error, other_error)


def test_mean_ranges_are_those_of_the_tables(physics):
    lib = physics["muonlib"]
    # CSDA ranges in g/cm2 of the tables that muonlib.py names.
    for medium, ranges in (
        (lib.Medium(lib.WATER_TABLE), {100.0: 3.645e4, 1000.0: 2.434e5, 3000.0: 4.683e5}),
        (lib.rock_medium(), {100.0: 4.087e4, 1000.0: 2.455e5, 3000.0: 4.395e5}),
    ):
        for energy, expected in ranges.items():
            assert medium.mean_range(energy) == pytest.approx(expected, rel=0.01)
            assert medium.threshold(expected) == pytest.approx(energy, rel=0.015)


def test_hard_losses_carry_their_share_of_the_mean_loss(physics):
    lib = physics["muonlib"]
    medium = lib.ice_medium()
    a, soft, rate, _, _, whole = medium.cell(1000.0)
    rng = random.Random(5)
    mean = sum(medium.hard_loss((a, soft, rate, *medium.cell(1000.0)[3:]), rng) for _ in range(60000)) / 60000
    assert soft + rate * mean == pytest.approx(whole, rel=0.02)


def test_the_zenith_angle_at_birth_is_that_of_a_curved_atmosphere(physics):
    star = physics["muonlib"].cos_theta_star
    assert star(1.0) == pytest.approx(1.0)
    assert star(0.5) == pytest.approx(0.5, abs=0.02)
    assert 0.08 < star(0.0) < 0.13


def run(python, work, script, *arguments, stats=None):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ICP_"))}
    if stats is not None:
        environment["ICP_STATS"] = str(stats)
    command = [python, "-B", str(EXAMPLE / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def chain(python, work, jobs=2, muons=150):
    """The whole DAG by hand, as the steering file has it; returns {file: bytes} and the statistics."""
    lines = []
    for job in range(jobs):
        place = work / f"{job:06d}"
        place.mkdir(parents=True)
        seed = 1_000_003 * job + 17
        stats = place / "stats"
        tasks = (
            ("ice.py", "--seed", seed, "--out", "ice.json"),
            ("surface.py", "--seed", seed, "--muons", muons, "--out", "surface.csv"),
            ("propagate.py", "--seed", seed, "--surface", "surface.csv", "--ice", "ice.json", "--out", "tracks.csv"),
            ("detect.py", "--seed", seed, "--tracks", "tracks.csv", "--ice", "ice.json", "--out", "hits.csv"),
            ("summary.py", "--hits", "hits.csv", "--ice", "ice.json", "--out", "summary.json"),
        )
        for script, *arguments in tasks:
            run(python, place, script, *arguments, stats=stats)
        lines.append(f"{job:06d}/summary.json")
    (work / "inputs.list").write_text("".join(line + "\n" for line in lines))
    run(python, work, "merge.py", "@inputs.list", "--reference", EXAMPLE / "reference.csv", stats=work / "stats")
    return {str(path.relative_to(work)): path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()}


def old_python():
    """A Python 3.6 that starts, or None."""
    found = [shutil.which("python3.6"), *sorted(map(str, Path.home().glob(".pyenv/versions/3.6.*/bin/python3.6")))]
    for candidate in filter(None, found):
        answer = subprocess.run([candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip() == b"(3, 6)":
            return candidate
    return None


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return chain(sys.executable, tmp_path_factory.mktemp("muons") / "a b'c")


def test_the_same_seeds_give_the_same_bytes(outcome, tmp_path):
    assert chain(sys.executable, tmp_path / "again") == outcome


def test_python_3_6_gives_the_same_bytes(outcome, tmp_path):
    python = old_python()
    if python is None:
        pytest.skip("no Python 3.6 on this machine: the bytes it would give were not compared")
    assert chain(python, tmp_path / "old") == outcome


def test_every_task_reports_statistics(outcome):
    names = {line.split()[0] for line in outcome["000000/stats"].decode().splitlines()}
    assert names >= {"ice_density_g_cm3", "surface_muons", "muons_arrived", "layer_hits", "top_layer_flux_cm2_s"}
    assert {line.split()[0] for line in outcome["stats"].decode().splitlines()} >= {"worst_difference", "jobs_merged"}


def test_the_order_of_the_summaries_does_not_matter(physics):
    rng = random.Random(6)
    keys = ("tried", "depth", "seen", "seen2", "energy")
    jobs = [{key: [rng.random() * 1e3 + 1.0 for _ in range(3)] for key in keys} for _ in range(25)]
    table = physics["merge"].merge(jobs)
    rng.shuffle(jobs)
    assert physics["merge"].merge(jobs) == table


def test_table_and_plot(outcome):
    result = json.loads(outcome["depth_intensity.json"])
    assert result["jobs"] == 2
    header, *rows = outcome["depth_intensity.csv"].decode().splitlines()
    assert header.startswith("depth_kmwe,intensity_cm2_s_sr,error_cm2_s_sr")
    assert len(rows) == len(result["table"]) > 5
    plot = ET.fromstring(outcome["depth_intensity.svg"])
    assert plot.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(plot.itertext())
    for expected in ("cm", "km water equivalent", "Mei & Hime", "Heisinger", "DUMAND"):
        assert expected in words
    assert len(plot.findall(".//{http://www.w3.org/2000/svg}circle")) >= 3 * len(rows) - 6


def test_everything_the_commands_use_is_shipped():
    steering = (EXAMPLE / "steering.toml").read_text()
    for name in (*SCRIPTS, "reference.csv"):
        assert f'"{name}"' in steering
    assert all(f'"{name}"' in steering for name in RESULTS)
