"""The tables of icp.states: what every sequence of events keeps true, and that the ledger's triggers and the docs say the same."""

import runpy
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.ledger.db import open_ledger, triggers
from icp.states import (
    ATTEMPT,
    ATTEMPT_LIVE,
    FILE,
    MACHINES,
    PILOT_LIVE,
    TASK,
    TASK_DONE,
    TASK_LIVE,
    Attempt,
    File,
    Pilot,
    RefusedEvent,
    Task,
)

DOCS = Path(__file__).parents[2] / "docs"
machines = pytest.mark.parametrize("machine", MACHINES, ids=lambda one: one.name)
HISTORY = settings(deadline=None, max_examples=150)


def walk(machine, state, events):
    """The states after each event that the table knows; others are refused and change nothing."""
    for event in events:
        before = state
        if machine.knows(state, event):
            state = machine.step(state, event)
        yield event, before, state


def events_of(machine):
    return st.lists(st.sampled_from(sorted(machine.moves)), max_size=30)


@machines
def test_every_state_is_reached_from_a_start(machine):
    reached = set(machine.start)
    pairs = machine.pairs()
    reached |= {after for before, after in pairs if before in reached}
    assert reached == set(machine.states)


@machines
def test_every_event_moves_something_or_confirms_it(machine):
    for event, row in machine.moves.items():
        assert row, event
        assert all(isinstance(state, machine.states) for pair in row.items() for state in pair)


@machines
def test_a_pair_that_is_not_listed_is_refused_with_its_names(machine):
    for event, row in machine.moves.items():
        for state in machine.states:
            if state in row:
                assert machine.step(state, event) == row[state]
            else:
                assert not machine.knows(state, event)
                with pytest.raises(RefusedEvent, match=f"{machine.name}: no move from {state.name.lower()} by {event}"):
                    machine.step(state, event)


@machines
@HISTORY
@given(data=st.data())
def test_pairs_hold_every_change_that_a_sequence_of_events_makes(machine, data):
    start = data.draw(st.sampled_from(sorted(machine.states)))
    pairs = machine.pairs()
    for _, _, after in walk(machine, start, data.draw(events_of(machine))):
        assert (start, after) in pairs


@machines
def test_each_pair_is_made_by_some_sequence(machine):
    for before, after in machine.pairs():
        seen, frontier = {before}, [before]
        while frontier:
            state = frontier.pop()
            new = {machine.step(state, event) for event in machine.moves if machine.knows(state, event)} - seen
            seen |= new
            frontier += new
        assert after in seen


# -- tasks -----------------------------------------------------------------------------------------------------


@HISTORY
@given(start=st.sampled_from(TASK.start), events=events_of(TASK))
def test_a_task_is_ok_only_behind_accepted_and_leaves_it_only_by_reset_or_a_lost_output(start, events):
    for event, before, after in walk(TASK, start, events):
        if after == Task.OK and before != Task.OK:
            assert event == "accepted" and before != Task.CANCELLED
        if before == Task.OK and after != Task.OK:
            assert event in ("reset", "output_lost") and after == Task.WAITING
        if before == Task.CANCELLED and after != before:
            assert event == "reset"


def test_evidence_alone_never_undoes_what_a_person_said():
    for event, row in TASK.moves.items():
        if event in TASK.user:
            continue
        assert row.get(Task.CANCELLED, Task.CANCELLED) == Task.CANCELLED
        assert row.get(Task.SUSPENDED, Task.SUSPENDED) in (Task.SUSPENDED, Task.OK, Task.FAILED)
        assert row.get(Task.FAILED, Task.FAILED) in (Task.FAILED, Task.OK)


def test_first_evidence_and_ends_of_attempts_are_known_in_every_state():
    for event in ("claimed", "again", "exhausted", "reset"):
        assert set(TASK.moves[event]) == set(Task), event


def test_live_and_done_states_are_those_of_the_ledgers_literal_columns():
    assert {int(state) for state in TASK_LIVE} == set(range(4))
    assert {int(state) for state in ATTEMPT_LIVE} == set(range(5))
    assert {int(state) for state in PILOT_LIVE} == set(range(Pilot.DRAINING + 1))
    assert not TASK_LIVE & TASK_DONE


# -- attempts --------------------------------------------------------------------------------------------------


@HISTORY
@given(events=events_of(ATTEMPT))
def test_an_attempt_goes_forward_only_and_once_ended_only_a_late_ok_counts(events):
    for event, before, after in walk(ATTEMPT, Attempt.QUEUED, events):
        if before == after:
            continue
        if before not in ATTEMPT_LIVE:
            assert event == "ended_ok" and before in (Attempt.LOST, Attempt.RECALLED)
        elif after in ATTEMPT_LIVE:
            assert after > before
        if after == Attempt.OK:
            assert event == "ended_ok"


def test_any_live_attempt_may_jump_to_any_end_that_a_fact_tells():
    for event in ("ended_ok", "ended_error", "ended_evicted", "ended_returned", "ended_cancelled", "gone"):
        assert set(ATTEMPT.moves[event]) >= ATTEMPT_LIVE, event


def test_nothing_that_began_is_withdrawn_or_returned_by_a_death():
    assert set(ATTEMPT.moves["withdrawn"]) == {Attempt.QUEUED, Attempt.CLAIMED}
    died = ATTEMPT.moves["agent_died"]
    assert died[Attempt.CLAIMED] == Attempt.RETURNED
    assert all(after == Attempt.LOST for before, after in died.items() if before != Attempt.CLAIMED)


@HISTORY
@given(events=events_of(FILE))
def test_what_is_home_was_verified_and_what_is_gone_stays_gone(events):
    for event, before, after in walk(FILE, File.PRODUCED, events):
        if after == File.HOME and before != File.HOME:
            assert event == "verified"
        assert before not in (File.LOST, File.DROPPED) or after == before


# -- what is made from the tables ------------------------------------------------------------------------------


def test_the_page_with_the_diagrams_is_current():
    page = runpy.run_path(str(DOCS / "generate_states.py"))["page"]
    assert (DOCS / "states.md").read_text(encoding="utf-8") == page(), "run: python docs/generate_states.py"


@machines
def test_a_diagram_shows_every_move_and_begins_and_ends(machine):
    drawn = machine.diagram().splitlines()
    for event, before, after in machine.edges():
        if before != after:
            line = next(
                line for line in drawn if line.startswith(f"    {before.name.lower()} --> {after.name.lower()}: ")
            )
            assert event in line.partition(": ")[2].split(", ")
    assert sum("[*] -->" in line for line in drawn) == len(machine.start)


GUARDED = ("attempt", "agent", "pilot", "file", "dataset")


@pytest.mark.parametrize("machine", [one for one in MACHINES if one.name in GUARDED], ids=lambda one: one.name)
def test_the_ledger_accepts_a_change_exactly_if_some_sequence_of_events_makes_it(machine):
    db = sqlite3.connect(":memory:", isolation_level=None)
    for name in GUARDED:
        db.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, state INTEGER)")
    db.executescript(triggers())
    pairs = machine.pairs()
    for before in machine.states:
        for after in machine.states:
            db.execute(f"INSERT OR REPLACE INTO {machine.name} VALUES (1, ?)", (int(before),))
            change = f"UPDATE {machine.name} SET state = {int(after)} WHERE id = 1"
            if (before, after) in pairs:
                db.execute(change)
            else:
                with pytest.raises(sqlite3.IntegrityError, match="no such change of state"):
                    db.execute(change)
    db.close()


def test_a_ledger_has_these_triggers_and_a_task_needs_none(tmp_path):
    ledger = open_ledger(tmp_path / "ledger.sqlite", create=True)
    names = {row[0] for row in ledger.db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%_moves'").fetchall()}
    ledger.close()
    assert names == {f"{name}_moves" for name in GUARDED}
    # a reset leads from every state to waiting, and from there some event to every other
    assert TASK.pairs() == {(before, after) for before in Task for after in Task}
