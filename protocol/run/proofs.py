"""Proof that an aggregator lied: two of its signed statements that cannot both be honest, or one to be recomputed.

Pure functions; each raises RemoteProtocolError when the proof does not hold. docs/protocol.md §8.16.
"""

from protocol.errors import RemoteProtocolError
from protocol.keys import RunId
from protocol.run.checkpoint import Checkpoint, Issue, open_checkpoint, open_issue, open_receipt
from protocol.run.messages import Accusation, Deed
from protocol.wire import hash_of

_DEEDS: dict[Deed, str] = {
    "two-issues": "it issued two different checkpoints for one round in one term",
    "two-checkpoints": "it made two different checkpoints for one round in one term",
    "dropped-update": "it gave a receipt for an update and left that out of its checkpoint",
    "wrong-result": "it issued a checkpoint that is not what the updates in it give",
}


def what_it_proves(proof: Accusation) -> str:
    """What the accused did, for people, once `check_proof` has passed."""
    return _DEEDS[proof.what]


def check_proof(run: RunId, proof: Accusation, *, also_issuers: bool) -> None:
    """Look at everything in a proof that its signatures and contents show; a result must be recomputed besides.

    `also_issuers`: whether who issues another's wrong result lies, too. Where every voter recomputes before it
    stores, nobody honest ever has one to issue.
    """
    if proof.what == "two-issues":
        one, two = (_own_issue(run, proof, raw) for raw in (proof.first, proof.second))
        if (one.term, one.round) != (two.term, two.round) or one.checkpoint == two.checkpoint:
            raise RemoteProtocolError("Two issues that both can be honest")
    elif proof.what == "two-checkpoints":
        first, second = (_own_checkpoint(run, proof, raw) for raw in (proof.first, proof.second))
        if (first.made_in_term, first.round) != (second.made_in_term, second.round) or first == second:
            raise RemoteProtocolError("Two checkpoints that both can be honest")
    elif proof.what == "dropped-update":
        _check_dropped(run, proof)
    else:
        _check_issued(run, proof, also_issuers)


def _check_dropped(run: RunId, proof: Accusation) -> None:
    receipt, made = open_receipt(proof.first), _own_checkpoint(run, proof, proof.second)
    body = receipt.body
    if receipt.node_id != proof.accused or (body.run, body.term, body.round) != (run, made.made_in_term, made.round):
        raise RemoteProtocolError("A receipt that has nothing to do with the checkpoint")
    if made.outcome == "stopped":
        raise RemoteProtocolError("A stop lists no updates")
    if lists(made, body.offer):
        raise RemoteProtocolError("The checkpoint lists the update that it is said to lack")


def lists(checkpoint: Checkpoint, offer: str) -> bool:
    """Whether a checkpoint lists the update of the signed offer with this hash, as used or as refused."""
    return any(hash_of(entry.offer) == offer for entry in checkpoint.updates)


def _check_issued(run: RunId, proof: Accusation, also_issuers: bool) -> None:
    issue, made = _own_issue(run, proof, proof.first), open_checkpoint(proof.second)
    if made.body.run != run or made.body_hash != issue.checkpoint:
        raise RemoteProtocolError("An issue that has nothing to do with the checkpoint")
    if made.body.maker != proof.accused and not also_issuers:
        raise RemoteProtocolError("Who issues a checkpoint again answers only for its own")


def _own_issue(run: RunId, proof: Accusation, raw: bytes) -> Issue:
    issue = open_issue(raw)
    if issue.node_id != proof.accused or issue.body.run != run:
        raise RemoteProtocolError(f"An issue that {proof.accused} did not sign for this run")
    return issue.body


def _own_checkpoint(run: RunId, proof: Accusation, raw: bytes) -> Checkpoint:
    made = open_checkpoint(raw).body
    if made.maker != proof.accused or made.run != run:
        raise RemoteProtocolError(f"A checkpoint that {proof.accused} did not make for this run")
    return made
