"""The recording that comes with the documentation plays: a real run of eight nodes that lost its aggregator."""

from pathlib import Path

from tui.facts.state import State
from tui.feeds.recording import read_recording

RECORDING = Path(__file__).parents[2] / "docs" / "screens" / "eight-nodes.ndjson.gz"


def test_the_shipped_recording_shows_a_run_from_its_proposal_to_its_end():
    tape, _ = read_recording(RECORDING)
    state, seen = State(), []
    for moment in tape.moments:
        state.apply(moment.event, moment.at)
        run = next((run for run in state.runs() if run.name == "digits-recorded"), None)
        if run is not None and (run.state, run.aggregator_name) not in seen:
            seen.append((run.state, run.aggregator_name))
    states = [state for state, _ in seen]
    assert states[0] in ("PROPOSED", "GATHERING")
    assert states[-1] == "FINISHED"
    aggregators = {name for state, name in seen if state == "RUNNING" and name}
    assert len(aggregators) == 2, "the first is lost, and another is elected"
    assert len(state.peers) == 8
    assert run.round == run.rounds
