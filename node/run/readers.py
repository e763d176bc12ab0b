"""Who may fetch which blob of a run from here."""

from node.run.known_run import KnownRun
from protocol.keys import BlobId, NodeId
from protocol.run.checkpoint import checkpoint_blobs


def kind_for(known: KnownRun, peer: NodeId, blob: BlobId) -> str:
    """What `blob` is to `peer` in a run: an update or a checkpoint that it may read; "" for neither. Of two runs
    alike one blob may belong to both, and be for another peer in each."""
    if not known.place.state().admits(peer):
        return ""
    if known.driver is None:
        return _kind_for_outsider(known, peer, blob)
    machine = known.driver.machine
    offer = machine.participation.offer
    # Auditors are of the roster, and where members may read updates any of the group's nodes may.
    is_reader = known.manifest.updates.readers == "members"
    is_reader |= known.manifest.audit != "none" and machine.is_trusted(peer)
    if offer is not None and offer[1].update == blob and (is_reader or peer == machine.election.aggregator):
        return "update"
    if known.driver.is_coding(blob) and peer == machine.election.aggregator:  # nobody else hears of it
        return "update"
    if is_reader and (known.driver.has_update(blob) or blob in machine.ledger.update_blobs()):
        return "update"
    # What has come of a checkpoint that is fetched just now is for the others of the roster, who fetch it too.
    # Where a round has one update, the difference may be the very same blob, and is for everybody then.
    # Models of earlier rounds, and of a run that is over, are given to those of the roster whose own are damaged.
    is_of_checkpoint = blob in machine.ledger.blobs() or known.driver.has_of_checkpoint(blob)
    return "checkpoint" if is_of_checkpoint and peer in machine.ledger.roster() else ""


def _kind_for_outsider(known: KnownRun, peer: NodeId, blob: BlobId) -> str:
    """Who proposed a run and takes no part in it has made its starting model, and nobody else has that."""
    if known.watch is None:
        return ""
    start = known.watch.ledger.zero.checkpoint
    return "checkpoint" if blob in checkpoint_blobs(start) and peer in start.roster else ""
