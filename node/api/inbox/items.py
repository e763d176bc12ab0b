"""What of a running node's state a person should look at or answer, as items of the inbox. Pure: facts in, items out.

What the record tells by itself is made into items in tracker.queries.inbox. Peers choose names, and how many proposals
and nodes there are: of each kind, and of each member, so many are told one by one, and the rest as one item.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from node.membership.group_place import GroupPlace
from node.membership.memberships import out_remedy, turned_away_text
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberAdmit
from protocol.group.state import GroupState
from protocol.keys import NodeId
from tracker.queries.inbox import LOOK_BACK_S, Json, item
from tracker.tables.rows import iso

PROPOSALS_OF_A_MEMBER_MAX = 5  # one by one; who proposes more at a time is working by script
JOINERS_OF_A_GROUP_MAX = 10  # one by one; a class that comes in by one invitation is told as a number
ID_SHOWN = 16  # of a node, in a command: its name is its own choice, and nothing to paste into a shell
FURTHER_NODES_MAX = 3  # of a member, one by one; more than these, of one who sets up a rack, are one item
# A round of a 100 MB model with ten updates takes 1.2 GB until the next, and a full disk stops the record: this is room
# for one such round, and for as much again while somebody makes room.
DISK_LOW_BYTES = 2 * 2**30
PAUSE_TOLD_AFTER_S = 30.0  # an election takes a few seconds, and is nobody's business


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A run that waits for our answer. `at`: when it was proposed, seconds. `task_file`: its task is somebody's
    file."""

    run_id: str
    name: str
    group_id: str
    group: str
    proposer: str
    member_id: str
    member: str
    task: str
    task_file: bool
    data: str
    how: str
    at: float


def proposal_items(waiting: Sequence[Proposed]) -> list[Json]:
    """One item a run, the newest of each member's; the others of a member are told as one."""
    items: list[Json] = []
    by_member: dict[str, list[Proposed]] = {}
    for each in sorted(waiting, key=lambda each: (each.at, each.run_id), reverse=True):
        by_member.setdefault(each.member_id, []).append(each)
    for theirs in by_member.values():
        items += map(_proposal_item, theirs[:PROPOSALS_OF_A_MEMBER_MAX])
        if more := theirs[PROPOSALS_OF_A_MEMBER_MAX:]:
            who = more[0].member
            title = f"{len(more)} more proposals by {who}"
            text = f"{who} has proposed more runs than are told one by one. See fednode run list."
            facts = item("proposals", more[0].member_id, len(more), time=iso(more[0].at), title=title, text=text)
            items.append({**facts, "group_id": more[0].group_id})
    return items


def _proposal_item(each: Proposed) -> Json:
    code = f"the task file {each.task}" if each.task_file else f"the built-in task {each.task}"
    by = each.proposer if each.member in ("", each.proposer) else f"{each.proposer} of {each.member}"
    how = f"How: {each.how}. " if each.how else ""
    made = item(
        "proposal",
        time=iso(each.at),
        title=f"Run {each.name} waits for your answer",
        text=f"{by} proposes it to {each.group}: it runs {code} on a data set called {each.data}. "
        f"{how}Accept it to take part, or decline it.",
        run=each.run_id,
        group=each.group_id,
    )
    return {**made, "id": f"proposal-{each.run_id}", "needs": "answer", "actions": ["accept", "decline", "run"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joiner:
    """A member that came in since we did with its first node, or further nodes of a member. `nodes`: names by id; `by`:
    who let the newest of them in.

    `is_new`: it is the member itself that came.
    """

    member_id: str
    name: str
    role: str
    nodes: Mapping[str, str]
    by: str
    at: float
    is_new: bool
    is_ours: bool


def joiners(log: GroupLog, state: GroupState, me: NodeId) -> list[Joiner]:
    """Who has come into the group since we did.

    Later is what comes later in the log, or says that it is: to hide from an owner, one would have to write onto the
    log's old operations and with a false time.
    """
    entered: dict[NodeId, tuple[int, NodeId, float]] = {}
    for place, operation in enumerate(log):
        certificate = operation.certificate
        if certificate is None or operation.hash in state.refused or certificate.node_id in entered:
            continue
        payload = operation.payload
        at = payload.admitted_at if isinstance(payload, MemberAdmit) else operation.body.claimed_at
        entered[certificate.node_id] = (place, operation.author, float(at))
    ours = entered.get(me)
    if ours is None or me not in state.nodes:
        return []
    found: list[Joiner] = []
    for member_id, member in state.members.items():
        came = [node for node in member.nodes if node != me and node in entered]
        new = sorted(
            (node for node in came if entered[node][0] > ours[0] or entered[node][2] > ours[2]),
            key=lambda node: entered[node][::2],
        )
        is_new = bool(new) and len(new) == len(came)
        for number, nodes in enumerate(_apart(new)):
            by = state.nodes.get(entered[nodes[-1]][1])
            found.append(
                Joiner(
                    member_id=member_id,
                    name=member.name,
                    role=member.role,
                    nodes={node: state.nodes[node].name for node in nodes},
                    by=by.name if by else entered[nodes[-1]][1][-8:],
                    at=entered[nodes[-1]][2],
                    is_new=is_new and number == 0,
                    is_ours=member_id == state.nodes[me].member_id,
                )
            )
    return found


def _apart(nodes: Sequence[NodeId]) -> list[Sequence[NodeId]]:
    """A member's new nodes, the oldest first, as they are told: each for itself, and the many of a rack together."""
    apart, rest = nodes[: 1 + FURTHER_NODES_MAX], nodes[1 + FURTHER_NODES_MAX :]
    return [*([node] for node in apart), *([rest] if rest else [])]


def joiner_items(found: Iterable[Joiner], group_id: str, group: str, now: float) -> list[Json]:
    """One item a member or further node, and one for all beyond the newest. `now`: what has come in long before it is
    left out."""
    lately = sorted((each for each in found if each.at > now - LOOK_BACK_S), key=lambda each: each.at, reverse=True)
    items = [_joiner_item(each, group_id, group) for each in lately[:JOINERS_OF_A_GROUP_MAX]]
    if more := lately[JOINERS_OF_A_GROUP_MAX:]:
        title = f"{len(more)} more came into {group}"
        text = "See the members of the group; whoever should not be there, an admin can remove."
        facts = {"time": iso(more[0].at), "title": title, "text": text, "group": group_id, "actions": ("group",)}
        items.append(item("joiner", group_id, len(more), **facts))  # type: ignore[arg-type]
    return items


def _joiner_item(each: Joiner, group_id: str, group: str) -> Json:
    names = ", ".join(sorted(each.nodes.values())[:5]) + (f" and {len(each.nodes) - 5} more" * (len(each.nodes) > 5))
    nodes = f"its {'node' if len(each.nodes) == 1 else 'nodes'} {names}"
    if each.is_ours:
        title = f"A new node of your own in {group}: {names}"
        text = (
            "A machine was linked with a device token of yours. If that was not you, shut it out where your member's "
            f"key lies: fednode nodes revoke {min(each.nodes)[:ID_SHOWN]}. It takes no key of yours, only the token."
        )
    elif each.is_new:
        title = f"{each.name} came into {group} as {each.role}"
        text = f"{each.by} has admitted {each.name} with {nodes}. If you do not know who that is, ask {each.by}."
    else:
        title = f"{each.name} has {'a new node' if len(each.nodes) == 1 else 'new nodes'} in {group}: {names}"
        text = f"{each.name}, {each.role} of {group}, now has {nodes} too. If you did not expect it, ask {each.name}."
    return item(
        "joiner",
        *(group_id, each.member_id, *sorted(each.nodes)),
        time=iso(each.at),
        title=title,
        text=text,
        node=min(each.nodes),
        group=group_id,
        actions=("group", "node"),
    )


def disk_item(free_bytes: int, home: str, since: float) -> Json:
    """The disk has been too full `since` then, seconds. It comes back to who has seen it once a day, and when the room
    has halved."""
    when = iso(since)
    text = (
        f"{free_bytes / 2**30:.1f} GiB are free where {home or 'the home'} lies; below {DISK_LOW_BYTES / 2**30:g} GiB "
        "a round may not fit, and a full disk stops the record and our part in runs. Make room there, or see fednode "
        "store prune."
    )
    title = "The disk is nearly full"
    return item("low-disk", when[:10], free_bytes.bit_length(), time=when, title=title, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that this node cannot do now: what, why, and what to do."""

    title: str
    text: str
    group_id: str = ""


def troubles(record: str, places: Iterable[GroupPlace]) -> list[Trouble]:
    """`record`: what troubles the record, "" where nothing does."""
    found = [Trouble(title="The record takes nothing", text=record)] if record else []
    for place in places:
        state = place.state()
        if told := turned_away_text(place):
            title = f"This node seems to be out of {state.name}"
            found.append(Trouble(title=title, text=f"{told}. To fix: {out_remedy(place)}.", group_id=place.group))
        if place.is_too_old:
            text = (
                "Its members use a newer fednode, and this node acts on nothing in the group until it is upgraded too."
            )
            found.append(Trouble(title=f"This node is too old for {state.name}", text=text, group_id=place.group))
        if place.has_unkept:
            text = (
                "The disk refuses it, and it is tried again. Make room in the node's home, and see that it is writable."
            )
            found.append(Trouble(title=f"The log of {state.name} cannot be written", text=text, group_id=place.group))
    return found


def trouble_item(trouble: Trouble, since: float) -> Json:
    """`since`: seconds; the same trouble at another time is another item."""
    when = iso(since)
    return item(
        "trouble", trouble.title, when, time=when, title=trouble.title, text=trouble.text, group=trouble.group_id
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A run of ours of which something is the matter. `at`: since when, seconds."""

    run_id: str
    name: str
    group_id: str
    note: str
    at: float


def paused_items(found: Iterable[Noted], now: float) -> list[Json]:
    """One item a run that does not go on for longer than an election takes."""
    return [
        item(
            "paused-run",
            *(each.run_id, each.note),
            time=iso(each.at),
            title=f"Run {each.name} does not go on",
            text=f"{each.note[:1].upper()}{each.note[1:]}.",
            run=each.run_id,
            group=each.group_id,
            actions=("run",),
        )
        for each in found
        if each.note and now - each.at >= PAUSE_TOLD_AFTER_S
    ]
