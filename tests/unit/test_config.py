"""The configuration: mistakes named, edits that keep the rest, a ledger on another host's disk."""

import json

import pytest

from icp import config
from icp.errors import BadInput, Refused
from icp.places import note_host, places


@pytest.fixture
def where(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return {"ICP_HOME": str(home)}


def write(where, text):
    places(where).config.write_text(text)


def test_without_a_file_this_machine_is_the_one_site(where):
    loaded = config.load(where)
    assert list(loaded.sites) == ["local"]
    assert loaded.ledger == places(where).data / "ledger.sqlite"
    assert loaded.sites["local"].pilot.cpus >= 1


def test_every_mistake_is_named_at_once_with_the_nearest_key(where):
    write(where, '[site.local.pilot]\nmemry = "2 GB"\ncpus = "many"\n[polcy]\ndepth = 3\n')
    with pytest.raises(BadInput) as caught:
        config.load(where)
    said = "\n".join(caught.value.mistakes)
    assert len(caught.value.mistakes) == 3
    assert "did you mean site.local.pilot.memory?" in said
    assert "site.local.pilot.cpus = 'many': expected a whole number" in said


def test_set_keeps_comments_and_everything_else(where):
    write(where, "# mine\n[policy]\ndepth = 60 # short\n")
    config.set_value(places(where), "policy.card_seconds", "30")
    config.set_value(places(where), "site.local.pilot.memory", "2 GB")
    text = places(where).config.read_text()
    assert text.startswith("# mine\n[policy]\n") and "depth = 60 # short" in text
    loaded = config.load(where)
    assert (loaded.policy.depth, loaded.policy.card_seconds) == (60, 30)
    assert loaded.sites["local"].pilot.memory == 2_000_000_000


def test_a_value_of_the_wrong_kind_changes_nothing(where):
    write(where, "[policy]\ndepth = 60\n")
    with pytest.raises(BadInput, match="expected a number"):
        config.set_value(places(where), "policy.depth", "soon")
    assert places(where).config.read_text() == "[policy]\ndepth = 60\n"


def test_a_ledger_on_the_disk_of_another_host_is_refused_with_its_name(where, tmp_path):
    elsewhere = tmp_path / "disk" / "ledger.sqlite"
    write(where, f'[ledger]\npath = "{elsewhere}"\n')
    note_host(places(where), elsewhere)
    assert config.load(where).ledger == elsewhere
    pointer = places(where).config.with_name("ledger.host")
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "host": "lab7"}))
    with pytest.raises(Refused, match="on a disk of host lab7"):
        config.load(where)


def test_a_table_comes_and_goes_and_the_rest_stays(where):
    text = '# top\n[site.a]\nscheduler = "none"\n\n# about policy\n[policy]\ndepth = 3  # few\n'
    write(where, text)
    config.add_table(places(where), "site.b", {"scheduler": "none", "root": "/x", "pilot.cpus": 2, "attributes.GPU": True, "setup": ["a 'b'", 'c "d"']})
    loaded = config.load(where)
    assert loaded.sites["b"].setup == ("a 'b'", 'c "d"')
    assert loaded.sites["b"].attributes == {"GPU": True}
    assert places(where).config.read_text().startswith(text)
    assert config.remove_table(places(where), "site.b")
    assert places(where).config.read_text() == text
    assert config.remove_table(places(where), "site.a")
    assert places(where).config.read_text() == "# top\n\n# about policy\n[policy]\ndepth = 3  # few\n"
    assert not config.remove_table(places(where), "site.a")


def test_a_table_of_a_longer_name_is_another_one(where):
    write(where, '[site.ab]\nroot = "/ab"\n[site.a]\nroot = "/a"\n[site.a.pilot]\ncpus = 1\n[site.a_b]\nroot = "/a_b"\n')
    assert config.remove_table(places(where), "site.a")
    assert sorted(config.load(where).sites) == ["a_b", "ab"]


def test_a_table_that_cannot_be_cut_out_is_left_alone(where):
    text = 'site.a.root = "/a"\nsite.b.root = "/b"\n'
    write(where, text)
    with pytest.raises(BadInput, match="cannot be edited safely"):
        config.remove_table(places(where), "site.a")
    assert places(where).config.read_text() == text


def test_wrong_values_of_a_new_table_write_nothing(where):
    with pytest.raises(BadInput) as caught:
        config.add_table(places(where), "site.b", {"root": "relative", "pilot.cpus": -1})
    assert len(caught.value.mistakes) == 2
    assert not places(where).config.exists()


@pytest.mark.parametrize(
    ("lines", "direct", "shared"),
    [
        ('zone = "z"', False, True), ('mode = "direct"', True, True),
        ('scheduler = "condor"\nshared = false', True, False), ('scheduler = "slurm"\nmode = "direct"', True, True),
    ],
)  # fmt: skip
def test_sites_where_each_card_is_a_batch_job(tmp_path, lines, direct, shared):
    (tmp_path / "config.toml").write_text(f"[site.x]\n{lines}\n")
    site = config.load({"ICP_HOME": str(tmp_path)}).sites["x"]
    assert (site.pilot.direct, site.shared) == (direct, shared)
    # what a batch job asks for is what its card needs: there is no walltime to fill
    assert not direct or site.pilot.walltime is None


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('scheduler = "slurm"\nshared = false', "only condor can carry the files of jobs, not slurm"),
        ('scheduler = "condor"\nshared = false\nmode = "pilots"', "needs a spool that workers see"),
        ('mode = "both"', "expected one of pilots, direct"),
    ],
)
def test_modes_that_cannot_be_are_refused(tmp_path, lines, words):
    (tmp_path / "config.toml").write_text(f"[site.x]\n{lines}\n")
    with pytest.raises(BadInput) as error:
        config.load({"ICP_HOME": str(tmp_path)})
    assert words in "\n".join((error.value.message, *error.value.mistakes))
