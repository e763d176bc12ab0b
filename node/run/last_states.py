"""How the participants of a run stand once it is over, by what was last heard of them.

The end of a run is the end of everybody's part in it. The last states of some never come: they were on their way, or
this node crashed before its record had them.
"""

from collections.abc import Mapping, Sequence

_HAVE_ENDED = frozenset({"DECLINED", "LOST", "FAILED", "FINISHED"})  # before the run did
_AT_WORK = frozenset({"TRAINING", "UPLOADING", "WAITING"})


def last_states(known: Mapping[str, tuple[str, str]], roster: Sequence[str]) -> list[tuple[str, str]]:
    """Each node whose state changes with the run's end, and to what: who was in the `roster` to the end has finished,
    unless it was lost, failed or left; who was put out of it at work was lost to the run.

    `known`: each node's last state, and its reason."""
    stayed, nothing = set(roster), ("", "")
    finished = [(node, "FINISHED") for node in roster if known.get(node, nothing)[0] not in _HAVE_ENDED]
    lost = [(node, "LOST") for node, (state, _) in known.items() if node not in stayed and state in _AT_WORK]
    return finished + lost
