"""What a run's proposal asks of this node, and what of it is here: PROPOSAL of docs/api.md."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from node.run.known_run import KnownRun
from protocol.keys import RunId
from tracker.queries.asking import answered
from tracker.queries.proposal import proposal_asked

if TYPE_CHECKING:
    from node.node import Node

Json = dict[str, Any]


async def proposal_view(node: "Node", run_id: str) -> Json:
    """Of any run in the record; what is here of code and data is told of those that a group's log still has."""
    view = await answered(proposal_asked(run_id), node.record.query)
    known = node.runs.known.get(RunId(run_id))
    if known is None:
        return view
    path = await node.task_files.find(known.manifest)
    member = known.place.state().members.get(known.entry.proposer_member)
    return {
        **view,
        "proposer_member": known.entry.proposer_member,
        "proposer_member_name": member.name if member else "",
        "code": code_here(view["code"], path, view["proposer_name"] or "the proposer"),
        "data": data_here(view["data"], [data.name for data in node.data_sets.all()], observes=_observes(node, known)),
    }


def _observes(node: "Node", known: KnownRun) -> bool:
    me = node.identity.node_id
    member = known.place.state().member_of(me)
    return known.manifest.roster.roles.get(me) == "observer" or (member is not None and member.role == "observer")


def code_here(code: Json, path: str | None, proposer: str) -> Json:
    """`path`: where our copy of the task's file lies, if there is one."""
    if code["kind"] == "built-in":
        return code
    if path is not None:
        return {**code, "here": True, "path": path, "what": f"{code['what']} It is here, unchanged: {path}"}
    todo = f"It is not here: get it from {proposer}, read it, and accept with its path."
    return {**code, "what": f"{code['what']} {todo}"}


def data_here(data: Json, ours: Sequence[str], *, observes: bool) -> Json:
    """`ours`: the names of our data sets. The one that is asked for comes first, if it is there."""
    wanted = data["wanted"]
    if observes:
        what = "This node only observes: it needs no data, and trains nothing."
        return {**data, "needed": False, "here": [], "what": what}
    here = [*(name for name in ours if name == wanted), *(name for name in ours if name != wanted)]
    if wanted in ours:
        return {**data, "here": here, "what": f"{data['what']} It is here."}
    if here:
        todo = f"None here is called so: accept with another of yours ({', '.join(here)}), or add it first."
    else:
        todo = f"There is no data set here yet: add yours first (fednode data add {wanted} PATH)."
    return {**data, "here": here, "what": f"{data['what']} {todo}"}
