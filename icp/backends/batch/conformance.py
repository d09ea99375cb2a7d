"""What every batch system must hold, checked on answers recorded from a real one: ours, and plug-ins (hides no exception: there are none).

    specimen = load(Path("tests/golden/mine"), MySystem())

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
    def test_mine(row):
        row(specimen)

A specimen is a folder: ``listing.out`` and, where there is accounting, ``accounting.out``, as printed by the commands of ``questions``;
and ``specimen.json``, written by a person: ``ledger``; ``left`` (pilot -> job id asked of accounting); ``states`` (pilot -> what must come
out); ``failures`` ([question, exit code, stdout, stderr] that tell nothing); ``nothing`` (the same, of a listing without jobs of ours);
``submits`` ([exit code, stdout, stderr, what it means]: ``submitted ID``, ``unclear``, or a part of the sentence, after ``again: `` where it
is tried again); ``lacks`` (fates that this system or its recording has not -> why).

Each row is one way in which a batch system, or what asked it, has misled people.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.backends.base import Unknown
from icp.backends.batch import BatchSystem
from icp.errors import BadInput
from icp.model.batch import Known, NotSubmitted, Submitted, Unclear, Wanted, batch_name

__all__ = ["ROWS", "Specimen", "load"]

Answer = tuple["int | None", str, str]
FATES = ("running", "pending", "ended well", "ended badly", "held", "twice", "core_seconds")
WORDS = ("pending", "running", "ended", "unknown")
NASTY = ("a b", "$(id)", "a;b", "-x", "a\nb", "`id`", "a'b")


@dataclass(frozen=True)
class Specimen:
    """A batch system, and what a real one said."""

    system: BatchSystem
    ledger: str
    listing: Answer
    accounting: Answer | None
    left: Mapping[str, str]
    states: Mapping[str, Mapping[str, Any]]
    nothing: Answer
    failures: Sequence[tuple[str, Answer]]
    submits: Sequence[tuple[Answer, str]]
    lacks: Mapping[str, str]

    def asked(self, listing: Answer | None = None, accounting: Answer | None = None) -> dict[str, Known] | Unknown:
        """The states, with one or both of the answers replaced."""
        answers = [listing or self.listing]
        if self.accounting is not None:
            answers.append(accounting or self.accounting)
        return self.system.states(self.ledger, answers, self.left if self.accounting is not None else {})

    def wanted(self, **change: Any) -> Wanted:
        """A pilot as a site may want it."""
        wanted = Wanted(batch_name(self.ledger, "0123456789abcdef"), "/data/icp/spool/pilots/0123456789abcdef", cpus=4, walltime=5430)
        return dataclasses.replace(wanted, **change)


def load(folder: Path, system: BatchSystem) -> Specimen:
    """Read a specimen's folder."""
    said = json.loads((folder / "specimen.json").read_text(encoding="utf-8"))
    accounting = folder / "accounting.out"
    return Specimen(
        system=system, ledger=said["ledger"], listing=(0, (folder / "listing.out").read_text(encoding="utf-8"), ""),
        accounting=(0, accounting.read_text(encoding="utf-8"), "") if accounting.exists() else None, left=said["left"], states=said["states"],
        nothing=_answer(said["nothing"]), failures=[(str(one[0]), _answer(one[1:])) for one in said["failures"]],
        submits=[(_answer(one), str(one[3])) for one in said["submits"]], lacks=said.get("lacks", {}),
    )  # fmt: skip


def _answer(three: Sequence[Any]) -> Answer:
    return three[0], str(three[1]), str(three[2])


def _known(found: dict[str, Known] | Unknown) -> dict[str, Known]:
    assert not isinstance(found, Unknown), found.why
    return found


def _living(specimen: Specimen) -> dict[str, Known]:
    """What the listing alone says."""
    return _known(specimen.system.states(specimen.ledger, [specimen.listing], {}))


# -- the rows -------------------------------------------------------------------------------------------------------


def specimen_shows_every_fate(specimen: Specimen) -> None:
    rows = specimen.states.values()
    shown = {
        "running": any(one["word"] == "running" for one in rows), "pending": any(one["word"] == "pending" and not one.get("never") for one in rows),
        "ended well": any(one["exit"] == 0 for one in rows), "ended badly": any(one["exit"] for one in rows),
        "held": any(one.get("never") for one in rows), "twice": any(one.get("others") for one in rows),
        "core_seconds": any(one.get("core_seconds") is not None for one in rows),
    }  # fmt: skip
    assert {fate for fate in FATES if not shown[fate]} == set(specimen.lacks), "record jobs of these fates, or say in `lacks` why not"


def recorded_answers_are_understood(specimen: Specimen) -> None:
    found = _known(specimen.asked())
    told = {
        pilot: {"word": one.word, "reason": one.reason, "exit": one.exit, "job": one.job, "never": bool(one.never), "others": list(one.others),
                "core_seconds": one.core_seconds}
        for pilot, one in found.items()
    }  # fmt: skip
    assert told == {pilot: {"never": False, "others": [], "core_seconds": None, **one} for pilot, one in specimen.states.items()}


def the_second_look_says_the_same(specimen: Specimen) -> None:
    """Parsl: FAILED becomes COMPLETED at the next poll, while another job is active."""
    assert specimen.asked() == specimen.asked()


def command_that_failed_tells_nothing(specimen: Specimen) -> None:
    """Parsl: any failure of qstat is COMPLETED for all; one purged id lets old states stick."""
    assert any(question == "listing" for question, _ in specimen.failures), "record what is said while the scheduler is down"
    for question, answer in specimen.failures:
        if question == "listing":
            found = specimen.asked(listing=answer)
            assert isinstance(found, Unknown), f"{answer!r} was believed"
            assert found.why
            assert found.why.isprintable()


def command_without_end_tells_nothing(specimen: Specimen) -> None:
    assert isinstance(specimen.asked(listing=(None, "", "")), Unknown)
    assert isinstance(specimen.asked(listing=(None, specimen.listing[1], "")), Unknown)
    assert isinstance(specimen.system.states(specimen.ledger, [], {}), Unknown)


def answer_that_breaks_off_tells_nothing(specimen: Specimen) -> None:
    text = specimen.listing[1]
    for size in range(1, len(text), max(1, len(text) // 200)):
        if not text[:size].endswith("\n"):
            assert isinstance(specimen.asked(listing=(0, text[:size], "")), Unknown), f"believed, though it breaks off after {text[:size][-40:]!r}"


def what_left_the_listing_is_absent_and_not_completed(specimen: Specimen) -> None:
    """Parsl: vanished is COMPLETED (Grid Engine, Torque, LSF), or RUNNING for ever (HTCondor)."""
    assert _known(specimen.system.states(specimen.ledger, [specimen.nothing], {})) == {}


def job_that_accounting_does_not_know_yet_has_not_ended(specimen: Specimen) -> None:
    """Parsl: polled right after the submit, a job is COMPLETED for ever."""
    if specimen.accounting is None:
        return
    alone = _living(specimen)
    for pilot in specimen.left:
        assert pilot not in alone or alone[pilot].word != "unknown"
    # accounting that knows of nobody: all that is left over is the listing
    found = _known(specimen.system.states(specimen.ledger, [specimen.listing], {}))
    assert found == alone


def unknown_id_does_not_spoil_the_others(specimen: Specimen) -> None:
    """Parsl: one unknown id freezes the state of all."""
    if specimen.accounting is None:
        return
    found = _known(specimen.asked())
    strangers = [pilot for pilot in specimen.left if pilot not in specimen.states]
    assert strangers, "ask accounting for an id that it never knew, too"
    assert not [pilot for pilot in strangers if pilot in found], "an id that accounting does not know has no state"
    assert [pilot for pilot in specimen.left if found.get(pilot, Known("unknown")).word == "ended"]


def accounting_that_failed_leaves_unknown_what_left(specimen: Specimen) -> None:
    if specimen.accounting is None:
        return
    alone = _living(specimen)
    answers = [answer for question, answer in specimen.failures if question == "accounting"] or [(None, "", "")]
    for answer in answers:
        found = _known(specimen.asked(accounting=answer))
        for pilot in specimen.left:
            assert found[pilot] == alone[pilot] if pilot in alone else found[pilot].word == "unknown"


def what_lives_has_not_ended_whatever_accounting_says(specimen: Specimen) -> None:
    """Grid Engine accounts for jobs that wait in error state; sacct says RUNNING of jobs long gone."""
    found = _known(specimen.asked())
    for pilot, one in _living(specimen).items():
        if one.word in ("pending", "running"):
            assert found[pilot] == one


def no_success_without_exit_zero(specimen: Specimen) -> None:
    """Parsl: Exit_status is ignored; what was killed or cancelled is COMPLETED."""
    for pilot, one in _known(specimen.asked()).items():
        assert one.word in WORDS
        assert one.exit == specimen.states[pilot]["exit"]
        assert one.exit is None or one.word == "ended"
        assert one.exit is None or 0 <= one.exit < 256


def what_waits_for_ever_says_what_mends_it(specimen: Specimen) -> None:
    """Parsl: held is FAILED; a job that no partition can run is PENDING for ever."""
    for one in _known(specimen.asked()).values():
        assert not one.never or (one.word == "pending" and one.reason)
        assert "{" not in one.never
        assert one.never.isprintable()
        assert one.reason.isprintable()


def second_job_of_a_pilot_is_seen(specimen: Specimen) -> None:
    for pilot, one in _known(specimen.asked()).items():
        assert one.job not in one.others
        assert list(one.others) == specimen.states[pilot].get("others", [])


def jobs_of_others_are_not_ours(specimen: Specimen) -> None:
    other = "ffffffff-0000-0000-0000-000000000000"
    answers = [specimen.listing, *([specimen.accounting] if specimen.accounting is not None else [])]
    assert _known(specimen.system.states(other, answers, {})) == {}


def nonsense_breaks_nothing(specimen: Specimen) -> None:
    text = specimen.listing[1]
    for nonsense in ("", "\n", "\x00\n", "[" * 5000 + "\n", "<" * 99 + "\n", "|||||\n", text.replace("\n", "") + "\n", text[::-1], text.upper(), "Job Id: 1\n"):
        for answers in ([(0, nonsense, nonsense)], [specimen.listing, (0, nonsense, nonsense)]):
            found = specimen.system.states(specimen.ledger, answers, dict(specimen.left))
            assert isinstance(found, (dict, Unknown))


def receipts_mean_what_they_say(specimen: Specimen) -> None:
    """Parsl: a failed submit returns None, or an exception about something else; ``12 job(s)`` is read as 1."""
    kinds = set()
    for answer, meaning in specimen.submits:
        got = specimen.system.receipt(*answer, {})
        kinds.add(type(got))
        if meaning.startswith("submitted "):
            assert got == Submitted(meaning.removeprefix("submitted ")), answer
        elif meaning == "unclear":
            assert isinstance(got, Unclear), answer
        else:
            assert isinstance(got, NotSubmitted), answer
            assert meaning.removeprefix("again: ") in got.why, got
            assert got.again == meaning.startswith("again: "), got
            assert got.hint
            assert got.why.isprintable()
    assert kinds == {Submitted, NotSubmitted, Unclear}, "record a submit of each kind"


def submit_without_an_answer_is_unclear(specimen: Specimen) -> None:
    assert isinstance(specimen.system.receipt(None, "", "", {}), Unclear)
    assert not isinstance(specimen.system.receipt(0, "", "", {}), (Submitted, NotSubmitted))


def pilot_is_rendered_for_one_incarnation_under_its_own_name(specimen: Specimen) -> None:
    one, other = specimen.system.render(specimen.wanted()), specimen.system.render(specimen.wanted())
    assert one == other, "the same pilot is not rendered the same"
    text = "\n".join([*one.argv, *one.files.values()])
    wanted = specimen.wanted()
    assert wanted.name in text
    assert f"{wanted.folder}/{specimen.system.body}" in text or f"{{dir}}/{specimen.system.body}" in text
    for name in ("stdout", "stderr"):
        assert f"{wanted.folder}/{name}" in text, f"{name} is not in the pilot's folder"
    assert not set(one.files) & {specimen.system.body, "pilot.json", "stdout", "stderr"}, "a file would hide one of the pilot's"


def values_that_could_be_more_than_a_value_are_refused(specimen: Specimen) -> None:
    """Parsl quotes nothing: ``queue = 'q; touch x'`` runs."""
    for name in ("partition", "account", "qos", "constraint"):
        for value in ("a\nb", "$(id)", "`id`"):
            _refused(specimen, name, **{name: value})
    for value in NASTY:
        for name in ("partition", "account"):
            _refused(specimen, name, **{name: value})
        _refused(specimen, "folder", folder=f"/data/{value}/x") if value != "-x" else None
        _refused(specimen, "an option", options={"no_such_option": value})


def _refused(specimen: Specimen, what: str, **change: Any) -> None:
    for ask in (specimen.system.check, specimen.system.render):
        try:
            ask(specimen.wanted(**change))
        except BadInput as error:
            assert error.message
        else:
            raise AssertionError(f"{what} = {change!r} was taken")


def jobs_are_cancelled_by_id_and_by_name(specimen: Specimen) -> None:
    name = specimen.wanted().name
    jobs = [str(one["job"]) for one in specimen.states.values() if one["job"]][:2]
    by_id = specimen.system.cancel(name, jobs, {})
    assert all(any(job in word for word in by_id) for job in jobs)
    assert any(name in word for word in specimen.system.cancel(name, [], {}))
    for wrong in ("-u", "", "1;x", "1 2", "all"):
        try:
            specimen.system.cancel(name, [wrong], {})
        except BadInput:
            continue
        raise AssertionError(f"{wrong!r} was taken for the id of a job")


def one_command_asks_for_all_pilots(specimen: Specimen) -> None:
    assert len(specimen.system.questions(specimen.ledger, [], None)) == 1
    assert len(specimen.system.questions(specimen.ledger, list(specimen.left.values()) or ["1"], None)) <= 2
    assert len(specimen.system.questions(specimen.ledger, list(specimen.left.values()), False)) == 1


ROWS: Sequence[Callable[[Specimen], None]] = (
    specimen_shows_every_fate, recorded_answers_are_understood, the_second_look_says_the_same, command_that_failed_tells_nothing,
    command_without_end_tells_nothing, answer_that_breaks_off_tells_nothing, what_left_the_listing_is_absent_and_not_completed,
    job_that_accounting_does_not_know_yet_has_not_ended, unknown_id_does_not_spoil_the_others, accounting_that_failed_leaves_unknown_what_left,
    what_lives_has_not_ended_whatever_accounting_says, no_success_without_exit_zero, what_waits_for_ever_says_what_mends_it,
    second_job_of_a_pilot_is_seen, jobs_of_others_are_not_ours, nonsense_breaks_nothing, receipts_mean_what_they_say,
    submit_without_an_answer_is_unclear, pilot_is_rendered_for_one_incarnation_under_its_own_name,
    values_that_could_be_more_than_a_value_are_refused, jobs_are_cancelled_by_id_and_by_name, one_command_asks_for_all_pilots,
)  # fmt: skip
