"""What a manifest, and the group's log, mean for the parts of a node: the machine's settings and directions, the
trainer's spec."""

from collections.abc import Mapping
from typing import Any

from node.seams import TaskSpec
from protocol.group.state import RunEntry
from protocol.keys import NodeId, RunId
from protocol.manifest.manifest import Manifest
from protocol.run.directions import Directions
from protocol.run.events import RunSettings


def run_settings(manifest: Manifest) -> RunSettings:
    return RunSettings(
        rounds=manifest.training.rounds,
        nodes_max=manifest.roster.nodes_max,
        fraction=manifest.round.fraction,
        updates_min=manifest.round.updates_min,
        round_deadline_s=manifest.round.deadline_s,
        round_deadline_min_s=manifest.round.deadline_min_s,
        late_are_used=manifest.round.late == "use",
        evaluate_every=manifest.evaluation.every,
        audit=manifest.audit,
        heartbeat_s=manifest.timing.heartbeat_s,
        election_timeout_s=manifest.timing.election_timeout_s,
        rank_step_s=manifest.timing.rank_step_s,
        lost_after_s=manifest.timing.lost_after_s,
        leave_after_s=manifest.timing.leave_after_s,
    )


def are_updates_shared(manifest: Manifest) -> bool:
    """Whether others than the aggregator may read a run's updates. They are then kept for a round longer."""
    return manifest.audit != "none" or manifest.updates.readers == "members"


def directions_of(entry: RunEntry) -> Directions:
    """What the group's log asks of a run beyond its start."""
    return Directions(
        stop=entry.stop.reason if entry.stop else None,
        was_stopped=entry.was_stopped,
        resumed=entry.resumed,
        rounds=entry.rounds,
    )


def task_spec(
    run: RunId,
    manifest: Manifest,
    node: NodeId,
    data_path: str | None,
    data_options: Mapping[str, Any],
    task_path: str | None,
    data_fingerprint: str = "",
) -> TaskSpec:
    """`data_path` and `data_options` are of this node's own data set; the manifest's options go before them.

    Random draws follow from the data's fingerprint, not from who holds it: the same seed, data and roster give the same
    models, whatever keys the nodes have.
    """
    return TaskSpec(
        run_id=run,
        node_id=node,
        task=task_path or manifest.task.name or "",
        task_parameters=dict(manifest.task.parameters),
        hyperparameters=manifest.training.model_dump(),
        codec=manifest.aggregation.codec,
        method=manifest.aggregation.method,
        data_path=data_path,
        data_options={**data_options, **manifest.data.options},
        seed=manifest.seed,
        draws=data_fingerprint,
    )
