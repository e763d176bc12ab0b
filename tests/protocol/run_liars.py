"""What liars do when they aggregate in the small world, and how its honest nodes recompute. docs/protocol.md §8.16."""

from typing import TYPE_CHECKING

from protocol.keys import NodeId
from protocol.run.checkpoint import UpdateEntry, checkpoint_name, open_checkpoint, open_issue, open_offer, sign_note
from protocol.run.events import Recompute, Recomputed
from protocol.run.messages import Proposal
from protocol.wire import hash_of

if TYPE_CHECKING:
    from run_world import SimNode, World

Entries = tuple[UpdateEntry, ...]


def made_of(base: str, entries: Entries) -> str:
    """The model that these entries give: in this world a hash of all their updates."""
    names = sorted(open_offer(entry.offer).body.update for entry in entries if not entry.refused)
    return hash_of("\n".join([base, *names]).encode())


def combined(lie: str | None, index: int, base: str, entries: Entries) -> tuple[str, Entries]:
    """The model and the entries that node `index` says to have combined."""
    from run_world import IDS

    if lie == "dropped-update":
        entries = tuple(entry for entry in entries if open_offer(entry.offer).body.node == IDS[index])
    model = made_of(base, entries)
    return (hash_of(model.encode()) if lie == "wrong-result" else model), entries


def recompute(world: "World", node: "SimNode", wanted: Recompute) -> None:
    from run_world import IDS

    offers = [open_offer(entry.offer).body for entry in wanted.checkpoint.updates]
    holders = {node.index, *(IDS.index(source) for source in wanted.sources)}

    def is_held(update: str, owner: str) -> bool:
        near = holders | {IDS.index(NodeId(owner))}
        return any(
            update in world.nodes[at].durable and (at == node.index or world.reachable(node.index, at)) for at in near
        )

    verdict: str | None = None
    if all(is_held(offer.update, offer.node) for offer in offers):
        node.durable |= {offer.update for offer in offers}
        is_right = made_of(wanted.previous.model, wanted.checkpoint.updates) == wanted.checkpoint.model
        verdict = "" if is_right else "its model is another"
    world.answer(node, Recomputed(wanted.name, verdict), (0.01, 0.5))


def doubled(world: "World", peer: NodeId, proposal: Proposal) -> Proposal:
    """What a liar tells half of the voters: another checkpoint for the same round."""
    from run_world import IDS, KEYS, RUN

    if not proposal.checkpoint or IDS.index(peer) % 2:
        return proposal
    made, issue = open_checkpoint(proposal.checkpoint).body, open_issue(proposal.issue).body
    maker = IDS.index(NodeId(made.maker))
    if maker not in world.liars or made.made_in_term != issue.term:
        return proposal
    other = made.model_copy(update={"exponents": (*made.exponents, 1)})
    another = issue.model_copy(update={"checkpoint": checkpoint_name(other)})
    return Proposal(run=RUN, issue=sign_note(KEYS[maker], another), checkpoint=sign_note(KEYS[maker], other))
