"""What HTCondor is told of a job whose card travels with it."""

from icp.backends.batch import system
from icp.backends.pilot_script import Body, pilot_body
from icp.model.batch import Wanted, batch_name

FOLDER = "/home/alice/.icp/u/pilots/0123456789abcdef"
PROGRAM = "/home/alice/.icp/programs/pilot-0123456789abcdef.pyz"


def rendered(**more):
    wanted = Wanted(batch_name("0a1b2c3d-1111-2222-3333-444444444444", "0123456789abcdef"), FOLDER, cpus=1, memory=10**9, **more)
    return system("condor").render(wanted).files


def last(text):
    """The value that counts of each command: the last."""
    pairs = [line.partition("=") for line in text.splitlines() if "=" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}


def test_bag_script_and_program_go_and_back_comes():
    files = rendered(program=PROGRAM)
    said = last(files["submit.sh"])
    assert said["transfer_input_files"] == f"{FOLDER}/batch.sh, {FOLDER}/pilot.sh, {FOLDER}/bag, {PROGRAM}"
    assert (said["should_transfer_files"], said["transfer_output_files"], said["when_to_transfer_output"]) == ("YES", "back", "ON_EXIT_OR_EVICT")
    assert said["output"] == f"{FOLDER}/stdout"
    assert FOLDER not in files["batch.sh"], "the worker sees nothing of it"
    assert "exec /bin/sh pilot.sh" in files["batch.sh"]


def test_without_a_bag_nothing_comes_back():
    said = last(rendered()["submit.sh"])
    assert (said["transfer_output_files"], said["when_to_transfer_output"]) == ('""', "ON_EXIT")


def test_the_script_of_a_bag_begins_once():
    text = pilot_body(Body(spool="bag", program="pilot.pyz", pilot="0123456789abcdef", command=("bagged",), bagged=True))
    assert text.index("[ -e back ]") < text.index(": > back") < text.index("bagged --spool bag --pilot")
