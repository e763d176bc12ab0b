"""What happens in a run, written into the node's record: one method for every kind of thing that a run's machine tells.

Rows go into the record's buffer and are durable within its flush interval. Whoever shows runs to people is told by
`changed` that there is something new.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fednode_logging import split_class
from node.record.state_gate import NodeState, StateGate
from node.run.last_states import last_states
from node.run.round_rows import round_row
from node.run.spans import Spans, told_rows
from node.run.task_rows import TaskRows
from node.seams import Record, TaskOutput
from protocol.keys import NodeId, RunId
from protocol.manifest.manifest import Manifest
from protocol.manifest.words import leaves
from protocol.run.checkpoint import Offer, Ready, Report, RunStart, open_offer, open_ready, open_report, ready_notes
from protocol.run.events import Committed, Elected, Ended, Measured, ParticipantState
from protocol.run.messages import Failure
from tracker.tables.rows import (
    ArtifactRow,
    DecisionRow,
    ElectionRow,
    LogRow,
    MetricRow,
    ModelRow,
    ParameterRow,
    ParticipantRow,
    RoundRow,
    Row,
    RunRow,
    SpanRow,
    StatusRow,
    SystemMetricRow,
)

NOBODY_REIGNS = (
    "no aggregator is heard: nothing is committed until more than half of the voters hear each other and elect one; "
    "what was learned is kept"
)
_OUTCOMES = ("FINISHED", "STOPPED", "FAILED")
MESSAGE_CHARACTERS_MAX = 20_000  # of a line: a whole traceback of a task (node.training.task_loading)
_SIGNED_METRICS_MAX = 64  # of one offer or report: protocol.run.checkpoint's bound


class Numbers:
    """Numbers upwards, over restarts too: begins at the clock's microseconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._next = int(now() * 1_000_000)

    def __call__(self) -> int:
        self._next += 1
        return self._next


@dataclass(slots=True)
class Live:
    """What of a run is not worth recording, but worth showing while it goes on."""

    note: str = ""
    noted_at: float = 0.0  # since when that is the matter, seconds
    bytes_sent: int = 0
    bytes_received: int = 0
    round_bytes: int = 0
    round: int = 0  # the newest that was told
    committed_at: float = 0.0
    seen_reports: set[tuple[str, int]] = field(default_factory=set)


class Chronicle:
    """One run's entries in this node's record.

    `changed(kind, rows)`: kind "run" when the run looks different now, "metrics" or "log" with new rows, "counted" with
    rows of what happened here, for whoever counts it.
    """

    def __init__(
        self,
        run: RunId,
        me: NodeId,
        record: Record,
        *,
        now: Callable[[], float],
        sequence: Numbers,
        changed: Callable[[str, tuple[Row, ...]], None],
    ) -> None:
        self.run = run
        self.live = Live()
        self._me = me
        self._record = record
        self._now = now
        self._sequence = sequence
        self._changed = changed
        self._states: dict[str, tuple[str, str]] = {}
        self._gate = StateGate(now)
        self._row: RunRow
        self._audit = "none"  # as the manifest has it
        self._failed: dict[str, str] = {}  # why, by who told us
        self._samples: dict[str, int] = {}  # that each node last trained on, as the record had it
        self._told_in: dict[str, int] = {}  # the newest round in which each node's samples were told
        self._start: RunStart | None = None
        self.on_gap: Callable[[], None] = lambda: None  # called when rounds before the newest were missed
        self.on_end: Callable[[], None] = lambda: None  # called when the run is over
        self._task_rows = TaskRows(run, me, now=now, sequence=sequence, warn=partial(self.log, "WARNING", "task"))
        self.spans = Spans(run, me, record=self._add_counted, now=now, sequence=sequence)

    @property
    def tells_of_others(self) -> bool:
        """Whether the record keeps how others stand, as far as this node has heard."""
        return self._record.tells_of_others

    # --- the run as a whole --------------------------------------------------------------------------------------
    def describe(self, manifest: Manifest, group: str, proposer: NodeId, at: float) -> None:
        """What run this is. First of all calls."""
        self._audit = manifest.audit
        self._row = RunRow(
            self.run,
            manifest.name,
            manifest.project,
            manifest.experiment,
            group,
            manifest.task.name or manifest.task.file or "",
            manifest.data.name,
            proposer,
            manifest.training.rounds,
            at,
            json.dumps(manifest.model_dump(mode="json"), sort_keys=True),
        )

    def proposed(self, manifest: Manifest) -> None:
        """The run was proposed in the group's log."""
        parameters = (
            ParameterRow(self.run, key, entry if isinstance(entry, str) else json.dumps(entry), type(entry).__name__)
            for key, entry in leaves(manifest.model_dump(mode="json"))
        )
        self._record.add(self._row, *parameters)
        self.state("", "PROPOSED", "")

    def restore(self, recorded: Mapping[str, Any], participants: Iterable[Mapping[str, Any]]) -> None:
        """Take up where the record left off, so that a restart writes nothing again. Rows as the record gives them."""
        self._row = replace(self._row, rounds=recorded["rounds"])
        self._states[""] = (recorded["state"], recorded["reason"])
        for row in participants:
            self._states[row["node_id"]] = (row["state"], row["reason"])
            if row["state"] == "FAILED":
                self._failed[row["node_id"]] = row["reason"]
            self._samples[row["node_id"]] = row["samples"]

    def resume(self, newest: int, committed_at: float) -> None:
        """The record ends with this round, committed at that time: what comes follows it, or shows a gap."""
        self.live.round, self.live.committed_at = newest, committed_at
        self._told_in = {node: newest for node, samples in self._samples.items() if samples}

    def decided(self, decision: str, reason: str) -> None:
        self._record.add(DecisionRow(self.run, decision, reason, self._now()))
        self._changed("run", ())

    def started(self, start: RunStart, roster: Mapping[str, bool]) -> None:
        """The run has started: `roster` says of every node whether it votes."""
        self._start = start
        if roster:
            self._record.add_once(("started", self.run), lambda: self._starting_rows(roster))
        if self._states.get("", ("", ""))[0] not in _OUTCOMES:
            self.state("", "RUNNING", "")
        self.live.committed_at = self._now()

    def _starting_rows(self, roster: Mapping[str, bool]) -> list[ParticipantRow]:
        notes = self._notes(())
        return [
            self._participant(node, voter, self._samples.get(node, 0), notes.get(node))
            for node, voter in roster.items()
        ]

    def _notes(self, entrants: Iterable[bytes]) -> dict[str, Ready]:
        """What the nodes of the start, and those taken in later, have signed: role, and fingerprint of their data."""
        first = ready_notes(self._start) if self._start is not None else ()
        return {note.node: note for note in (*first, *(open_ready(raw).body for raw in entrants))}

    def _participant(self, node: str, voter: bool, samples: int, note: Ready | None) -> ParticipantRow:
        said = (note.role, note.data_fingerprint) if note else ("", "")
        return ParticipantRow(self.run, node, voter, samples, *said)

    def state(self, node: str, state: str, reason: str, round_number: int = 0) -> None:
        """The run ("") or a participant is in this state now. Repeated, it adds nothing; too often, it waits."""
        if not node and state in _OUTCOMES:
            self.on_end()
        if self._states.get(node) == (state, reason):
            return
        self._states[node] = (state, reason)
        told = NodeState(node, state, reason, round_number)
        if not node or self._gate.passes(told):
            self._add_state(told)
        if not node and state in _OUTCOMES:
            self._begin_states_anew()
            self.note("")

    def ended(self, event: Ended, round_number: int) -> bool:
        """The run is over, and everybody's part in it. Whether that is new."""
        told = (event.outcome.upper(), event.reason)
        is_new = self._states.get("") != told
        for node, state in last_states(self._states, event.roster):
            if self.tells_of_others or node == self._me:
                self.state(node, state, "", round_number)
        self.state("", *told, round_number)
        return is_new

    def settle(self) -> None:
        """Record what of flapping states was held back and may pass now. To be called now and then."""
        for told in self._gate.due():
            self._add_state(told)

    def _begin_states_anew(self) -> None:
        self._gate.open()
        self.settle()

    def _add_state(self, told: NodeState) -> None:
        what = (told.node, told.state, told.reason, told.round, self._now(), self._sequence(), self._me)
        self._record.add(StatusRow(self.run, *what))
        self._changed("run", ())

    def note(self, text: str) -> None:
        if self._states.get("", ("", ""))[0] in _OUTCOMES:
            text = ""  # what has ended waits for nothing
        if text != self.live.note:
            self.live.note, self.live.noted_at = text, self._now()
        self._changed("run", ())

    # --- what the machine tells ----------------------------------------------------------------------------------
    def elected(self, event: Elected) -> None:
        if event.aggregator is not None:
            self._add_counted(ElectionRow(self.run, event.term, event.aggregator, self._now()))
        else:
            self.log("WARNING", "fednode.run.silent", "no aggregator is heard")
        self.note("" if event.aggregator else NOBODY_REIGNS)

    def committed(self, event: Committed, model_bytes: int | None, norms: Mapping[str, float] | None = None) -> None:
        """A checkpoint is final. What its updates' senders measured while training comes with it.

        `model_bytes` is None where the model is not here; `norms` are those of updates known here, by blob.
        """
        checkpoint, at = event.checkpoint, self._now()
        follows = checkpoint.round <= self.live.round + 1
        seconds = max(0.0, at - self.live.committed_at) if self.live.committed_at and follows else 0.0
        self.live.committed_at, self.live.round = at, checkpoint.round
        if model_bytes is not None:
            # An entry that only ends the run has the model of the round before, which who was away has not recorded.
            made_in = checkpoint.round if checkpoint.updates else max(0, checkpoint.round - 1)
            self._record.add(ModelRow(self.run, made_in, checkpoint.model, checkpoint.tensor_schema, model_bytes, at))
        if checkpoint.rounds != self._row.rounds and checkpoint.outcome != "stopped":
            self._row = replace(self._row, rounds=checkpoint.rounds)
            self._record.add(self._row)
            self.log("INFO", "fednode.run.extended", f"it lasts {checkpoint.rounds} rounds now")
        if checkpoint.updates:
            moved, known = self.live.round_bytes, dict(norms or {})
            self._add_once(
                ("committed", self.run, event.name, str(event.term)),
                lambda: self._round_rows(event, moved, seconds, at, known),
            )
        self.live.round_bytes = 0
        self._begin_states_anew()
        if not follows:
            self.on_gap()
        self._changed("run", ())

    def committed_earlier(self, event: Committed, at: float, seconds: float, moved: int = 0) -> None:
        """A round that was committed `at` a time at which this node did not hear of it, `seconds` after the one before;
        `moved` bytes were counted for it here."""
        key = ("committed", self.run, event.name, str(event.term), str(seconds))
        self._add_once(key, lambda: self._round_rows(event, moved, seconds, at, {}))

    def _round_rows(
        self, event: Committed, moved: int, seconds: float, at: float, norms: Mapping[str, float]
    ) -> list[Row]:
        """The round, and of everybody whose update counted what it measured while it trained."""
        checkpoint = event.checkpoint
        voters, notes = set(checkpoint.voters), self._notes(checkpoint.entrants)
        rows: list[Row] = [round_row(event, moved, seconds, at, audit=self._audit, norms=norms)]
        for entry in checkpoint.updates:
            offer = open_offer(entry.offer).body
            if checkpoint.round >= self._told_in.get(offer.node, 0):  # else a newer one was told before
                self._told_in[offer.node] = checkpoint.round
                rows.append(self._participant(offer.node, offer.node in voters, offer.samples, notes.get(offer.node)))
            rows += self._signed_metrics(offer.node, "local", "train", offer.round, offer.samples, offer.metrics, at)
            rows += self._told_rows(offer, at)
        return rows

    def measured(self, event: Measured, at: float | None = None) -> None:
        """Nodes' measurements of checkpoints on their own held-out data; each node's and round's counts once. Now, or
        `at` an earlier time."""
        when = self._now() if at is None else at
        self._add_once(("measured", self.run, *event.reports), lambda: self._measured_metrics(event.reports, when))

    def _measured_metrics(self, reports: Iterable[bytes], at: float) -> list[Row]:
        rows = list[Row]()
        for raw in reports:
            report = open_report(raw).body
            if (report.node, report.round) in self.live.seen_reports:
                continue
            self.live.seen_reports.add((report.node, report.round))
            rows += self._signed_metrics(
                report.node, "global", "eval", report.round, report.samples, report.metrics, at
            )
            rows += self._told_rows(report, at)
        return rows

    def _told_rows(self, note: Offer | Report, at: float) -> list[SpanRow | SystemMetricRow]:
        """What others were busy with, in sums. Our own is here in full, and where nodes share a record everybody's."""
        is_here = note.node == self._me or not self._record.tells_of_others
        return [] if is_here else told_rows(self.run, note, at)

    def participant(self, event: ParticipantState) -> None:
        """A state is told of others without a reason; one that the node itself has told stays with it."""
        known = self._failed.get(event.node, "") if event.state == "FAILED" else ""
        self.state(event.node, event.state, event.reason or known, event.round)

    def failure(self, node: str, name: str, told: Failure) -> None:
        """A node tells us, who proposed the run, that its task has failed."""
        self.log("WARNING", "fednode.run", f"the task failed at {name}: {told.reason}")
        if not told.goes_on:
            self._failed[node] = told.reason
            self.state(node, "FAILED", told.reason, told.round)

    # --- what the task says --------------------------------------------------------------------------------------
    def task_said(self, output: TaskOutput) -> None:
        """A line, live metrics, parameters or a span out of our own worker."""
        if output.kind in ("log", "stdout", "stderr"):
            self.log(output.level, f"task.{output.kind}", output.text)
            return
        rows = self._task_rows.of(output)
        self._record.add(*rows)
        if metrics := tuple(row for row in rows if isinstance(row, MetricRow)):
            self._changed("metrics", metrics)

    def made(self, artifact: TaskOutput, blob: str, size: int) -> None:
        """Our own worker has made an artifact, which is this blob now."""
        assert artifact.staged is not None
        what = (artifact.name, artifact.staged.kind, blob, size, self._now(), artifact.round, artifact.staged.details)
        self._record.add(ArtifactRow(self.run, self._me, *what))

    async def artifacts(self) -> list[dict[str, Any]]:
        """What our own worker has made so far."""
        return await self._record.query("artifacts", run_id=self.run, node=self._me)

    def log(self, level: str, logger: str, message: str) -> None:
        """A line of this run's log: into the record, and to whoever reads the node's own. Cut where it is longer
        than anything that people read."""
        message = message[:MESSAGE_CHARACTERS_MAX]
        row = LogRow(self._me, self.run, level, logger, message, self._now(), self._sequence())
        self._record.add(row)
        self._changed("log", (row,))
        line = message.splitlines()[0] if message else ""
        logging.getLogger(logger).log(
            logging.getLevelName(level), "run %s: %s", self.run[:8], line, extra={"is_recorded": True}
        )

    def moved(self, size: int, *, received: bool) -> None:
        """Bytes of updates or checkpoints came here, or went from here."""
        self.live.round_bytes += size
        if received:
            self.live.bytes_received += size
        else:
            self.live.bytes_sent += size

    def _signed_metrics(
        self,
        node: str,
        scope: str,
        split: str,
        round_number: int,
        samples: int,
        metrics: Mapping[str, float],
        at: float,
    ) -> list[MetricRow]:
        """What a node has signed. Its numbers follow from what they count, so all who record it number it alike."""
        first = (round_number * 2 + (scope == "global")) * _SIGNED_METRICS_MAX
        where, when = (self.run, node, scope, split), (round_number, 0, 0)
        return [
            MetricRow(*where, *split_class(name), *when, value, samples, at, node, first + place)
            for place, (name, value) in enumerate(sorted(metrics.items()))
        ]

    def _add_once(self, key: tuple[str | bytes, ...], rows: Callable[[], Sequence[Row]]) -> None:
        """Record what every node makes alike; those who watch are shown the metrics in it."""
        made = tuple(self._record.add_once(key, rows))
        if metrics := tuple(row for row in made if isinstance(row, MetricRow)):
            self._changed("metrics", metrics)
        if rounds := tuple(row for row in made if isinstance(row, RoundRow)):
            self._changed("counted", rounds)

    def _add_counted(self, row: ElectionRow | SpanRow | SystemMetricRow) -> None:
        self._record.add(row)
        self._changed("counted", (row,))
