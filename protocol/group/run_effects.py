"""What proposals, starts, stops, resumptions and extensions of runs make of a group's state.

A part of `group_reducer`, under the rules of `group_rules`: pure, the same on every node and for ever.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from protocol.group import rules
from protocol.group.operation_kinds import Payload, RunExtend, RunPropose, RunResume, RunStart, RunStop
from protocol.group.operations import OpenOperation
from protocol.group.state import GroupState, RunEntry, RunStopped
from protocol.keys import RunId


def _propose_run(state: GroupState, operation: OpenOperation, payload: RunPropose) -> GroupState:
    rules.observers_do_not_propose(state, operation.author)
    proposer = operation.author
    entry = RunEntry(proposer, state.nodes[proposer].member_id, payload.manifest, operation.body.claimed_at)
    return _with_run(state, RunId(operation.hash), entry)


def _start_run(state: GroupState, operation: OpenOperation, payload: RunStart) -> GroupState:
    rules.author_must_be_a_bound_node(state, operation.author)
    entry = rules.run_must_exist(state, payload.run)
    rules.only_the_proposer_starts(entry, operation.author)
    rules.only_the_first_start_counts(entry)
    return _with_run(state, payload.run, replace(entry, start=payload.start, starter=operation.author))


def _stop_run(state: GroupState, operation: OpenOperation, payload: RunStop) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    rules.only_the_first_stop_counts(entry)
    stop = RunStopped(operation.author, payload.reason, operation.hash)
    return _with_run(state, payload.run, replace(entry, stop=stop, was_stopped=True))


def _resume_run(state: GroupState, operation: OpenOperation, payload: RunResume) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    stop = rules.a_resumption_lifts_the_stop_that_it_names(entry, payload.stop)
    return _with_run(state, payload.run, replace(entry, stop=stop, resumed=entry.resumed | {payload.checkpoint} - {""}))


def _extend_run(state: GroupState, operation: OpenOperation, payload: RunExtend) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    rounds = rules.the_furthest_extension_counts(entry, payload.rounds)
    return _with_run(state, payload.run, replace(entry, rounds=rounds))


def _with_run(state: GroupState, run: RunId, entry: RunEntry) -> GroupState:
    return replace(state, runs={**state.runs, run: entry})


RUN_EFFECTS: Mapping[type[Payload], Callable[[GroupState, OpenOperation, Any], GroupState]] = {
    RunPropose: _propose_run,
    RunStart: _start_run,
    RunStop: _stop_run,
    RunResume: _resume_run,
    RunExtend: _extend_run,
}
