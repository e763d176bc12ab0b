"""Who lies is found out, and aggregates no more: checkpoints are recomputed, proofs checked, liars deposed.

docs/protocol.md §8.16 to §8.18. Nobody believes an accuser: each node looks at the signed statements itself, and
recomputes a result before it deposes anybody for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash, NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.checkpoint import Checkpoint, Receipt, open_offer
from protocol.run.context import RunContext
from protocol.run.events import Evidence, Misbehaved, Recompute, Recomputed
from protocol.run.gathering import OFFER_REFUSALS, why_refused
from protocol.run.journal import EvidenceRecord
from protocol.run.ledger import Held, Ledger
from protocol.run.messages import Accusation, Deed
from protocol.run.proofs import check_proof, lists, what_it_proves
from protocol.run.voters import auditors_of
from protocol.signing import Signed
from protocol.wire import hash_of

# A result that could not be recomputed yet, because an update is not to be had: so soon, and so often, again.
RECOMPUTE_AGAIN_S = 5.0
RECOMPUTE_TIMES_MAX = 12
_PROOF_BYTES_MAX = FRAME_BYTES_MAX - 4096  # with the message around it; a longer one stays with who has it


@dataclass(slots=True)
class _Case:
    """An accusation whose result is being recomputed here, and who brought it."""

    proof: Accusation
    checkpoint: Checkpoint
    previous: Checkpoint
    accuser: NodeId
    tries: int = 0


class Audit:
    """What this node knows of lies in one run. Whom it has deposed stands in `context.deposed`.

    `receipts` are those of our newest update, by term.
    """

    def __init__(self, context: RunContext, ledger: Ledger, receipts: Mapping[int, Signed[Receipt]]) -> None:
        self.context = context
        self.ledger = ledger
        self.receipts = receipts
        self._verdicts: dict[Hash, str] = {}  # of checkpoints recomputed here: "" when sound, else how it differs
        self._cases: dict[Hash, _Case] = {}
        self._false_accusers: set[NodeId] = set()
        self._seen: set[tuple[str, str]] = set()

    # --- before an acknowledgement -----------------------------------------------------------------------------------
    def must_recompute(self, held: Held) -> bool:
        """Whether this checkpoint is ours to recompute before we acknowledge it (§8.18)."""
        checkpoint = held.checkpoint
        if held.name in self._verdicts or held.name == self.ledger.stored.name or not checkpoint.updates:
            return False
        others = tuple(node for node in checkpoint.voters if node != checkpoint.maker)
        return self.context.me in auditors_of(self.context.run, checkpoint.round, others, self.context.settings.audit)

    def recompute(self, held: Held, issuer: NodeId) -> bool:
        """Have it recomputed; False when the checkpoint before it is not held here yet."""
        previous = self.ledger.committed_before(held.checkpoint)
        if previous is None:
            return False
        self._recompute(held.name, held.checkpoint, previous, issuer)
        return True

    def _recompute(self, name: Hash, checkpoint: Checkpoint, previous: Checkpoint, source: NodeId) -> None:
        """What offers alone decide is judged here, at once; the bytes are another's to look at."""
        wrong = self.wrong_refusal(checkpoint, previous)
        if wrong:
            self.context.to_self.append(Recomputed(name, wrong))
        else:
            sources = tuple(dict.fromkeys((source, NodeId(checkpoint.maker))))
            self.context.out.append(Recompute(name, checkpoint, previous, sources))

    def wrong_refusal(self, checkpoint: Checkpoint, previous: Checkpoint) -> str:
        """How the checkpoint judges an offer wrongly that can be judged by itself; empty where it does not."""
        trainers = self.ledger.trainers_after(previous)
        base, late_are_used = Held(Hash(checkpoint.previous), previous, b""), self.context.settings.late_are_used
        for entry in checkpoint.updates:
            offer = open_offer(entry.offer).body
            found = why_refused(entry.offer, offer, trainers, base, late_are_used=late_are_used)
            code = found[0] if found else ""
            if code != (entry.refused if entry.refused in OFFER_REFUSALS else ""):
                return f"the update of {offer.node} is {entry.refused or 'used'}, and should be {code or 'looked at'}"
        return ""

    def may_acknowledge(self, held: Held, issuer: NodeId, issue: bytes) -> bool:
        """Whether nothing speaks against a checkpoint that is about to be stored; what does deposes its issuer."""
        self.look_for_omission(held)
        if self._verdicts.get(held.name):
            is_liable = issuer == held.checkpoint.maker or self.context.settings.audit == "full"
            if not is_liable:
                return True  # what another issues again may be committed (§8.18)
            self._depose(_proof(self.context, "wrong-result", issuer, issue, held.raw))
        return issuer not in self.context.deposed

    def look_for_omission(self, held: Held) -> None:
        """Was our update, for which we have its maker's receipt, left out?"""
        made = held.checkpoint
        receipt = self.receipts.get(made.made_in_term)
        if receipt is None or (receipt.node_id, receipt.body.round) != (made.maker, made.round):
            return
        if made.outcome != "stopped" and not lists(made, receipt.body.offer):
            self._depose(_proof(self.context, "dropped-update", NodeId(made.maker), receipt.raw, held.raw))

    # --- what contradicts itself -------------------------------------------------------------------------------------
    def compare(self, one: Held, two: Held) -> None:
        """If one node made both, for one round and in one term, it lied."""
        first, second = one.checkpoint, two.checkpoint
        same = (first.maker, first.made_in_term, first.round) == (second.maker, second.made_in_term, second.round)
        if same and one.name != two.name and one.raw and two.raw:
            self._depose(_proof(self.context, "two-checkpoints", NodeId(first.maker), one.raw, two.raw))

    def on_two_issues(self, issuer: NodeId, first: bytes, second: bytes) -> None:
        self._depose(_proof(self.context, "two-issues", issuer, first, second))

    # --- accusations -------------------------------------------------------------------------------------------------
    def on_accusation(self, peer: NodeId, proof: Accusation) -> None:
        """Look at what somebody says to prove. Raises RemoteProtocolError when it does not hold (§8.17)."""
        if proof.accused in self.context.deposed or peer in self._false_accusers:
            return
        if peer not in self.ledger.roster():
            raise RemoteProtocolError(f"{peer} accuses somebody in a run that it takes no part in")
        check_proof(self.context.run, proof, also_issuers=self.context.settings.audit == "full")
        if proof.what != "wrong-result":
            self._depose(proof, told=True)
            return
        held = self.ledger.open_held(proof.second)
        previous = self.ledger.committed_before(held.checkpoint)
        if held.name in self._verdicts:
            self._judge(proof, peer, self._verdicts[held.name])
        elif previous is not None and held.name not in self._cases and not self._has_case_of(peer):
            self._cases[held.name] = case = _Case(proof, held.checkpoint, previous, peer)
            self._ask(held.name, case)

    def _has_case_of(self, accuser: NodeId) -> bool:
        """One at a time: each costs a whole round's sum."""
        return any(case.accuser == accuser for case in self._cases.values())

    def _ask(self, name: Hash, case: _Case) -> None:
        self._recompute(name, case.checkpoint, case.previous, case.accuser)

    def on_timer(self) -> None:
        for name, case in self._cases.items():
            self._ask(name, case)

    def on_recomputed(self, event: Recomputed) -> None:
        """Remember what came of it, and judge who was accused for it."""
        case = self._cases.get(event.checkpoint)
        if event.verdict is not None:
            self._verdicts[event.checkpoint] = event.verdict
            if case is not None:
                del self._cases[event.checkpoint]
                self._judge(case.proof, case.accuser, event.verdict)
        elif case is not None:
            case.tries += 1
            if case.tries >= RECOMPUTE_TIMES_MAX:
                del self._cases[event.checkpoint]
            else:
                self.context.set_timer("recompute", RECOMPUTE_AGAIN_S)

    def _judge(self, proof: Accusation, accuser: NodeId, verdict: str) -> None:
        if verdict:
            self._depose(proof, told=True)
        else:
            self._false_accusers.add(accuser)
            self.context.out.append(Misbehaved(accuser, f"accuses {proof.accused} of a result that is right"))

    # --- judgement ---------------------------------------------------------------------------------------------------
    def _depose(self, proof: Accusation, *, told: bool = False) -> None:
        """It is proven: keep the proof, tell people, pass it on, and follow the accused no more (§8.16). What we were
        `told` by another is passed on by the voters alone: they are many enough."""
        accused = NodeId(proof.accused)
        if accused in self.context.deposed:
            return
        self.context.deposed[accused] = what_it_proves(proof)
        self.keep(accused, what_it_proves(proof), proof.first, proof.second, deposes=True)
        is_ours_to_tell = not told or self.context.me in self.context.voters
        if is_ours_to_tell and len(proof.first) + len(proof.second) <= _PROOF_BYTES_MAX:
            self.context.send_all(self.ledger.roster(), proof)

    def keep(self, node: NodeId, what: str, first: bytes, second: bytes, *, deposes: bool = False) -> None:
        """Make two statements of a node durable, and show them to people; once (§8.12)."""
        key = (hash_of(first), hash_of(second))
        if key not in self._seen:
            self._seen.add(key)
            self.context.persist(EvidenceRecord(node=node, what=what, deposes=deposes, first=first, second=second))
            self.context.out.append(Evidence(node, what, first, second))

    def restore(self, record: EvidenceRecord) -> None:
        self._seen.add((hash_of(record.first), hash_of(record.second)))
        if record.deposes:
            self.context.deposed[NodeId(record.node)] = record.what


def _proof(context: RunContext, what: Deed, accused: NodeId, first: bytes, second: bytes) -> Accusation:
    return Accusation(run=context.run, accused=accused, what=what, first=first, second=second)
