"""What a node's log says of a round."""

from collections.abc import Callable

from protocol.keys import NodeId
from protocol.run.checkpoint import SET_ASIDE, Checkpoint, open_offer

REFUSALS_TOLD_MAX = 3  # in one line of the log; all of them are in the record


def refused_in(checkpoint: Checkpoint, name_of: Callable[[NodeId], str]) -> str:
    """Whose updates were unfit, and why; empty when none was. (What a rule sets aside may be fit, and often is.)"""
    refused = [entry for entry in checkpoint.updates if entry.refused not in ("", SET_ASIDE)]
    told = [
        f"the update of {name_of(NodeId(open_offer(entry.offer).body.node))}: {entry.reason} ({entry.refused})"
        for entry in refused[:REFUSALS_TOLD_MAX]
    ]
    more = len(refused) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
