"""Connecting to a peer for blobs: at one of a few addresses, to the certificate offered, with the token.

Nothing is said before the certificate is seen to be the peer's, and nothing is asked before the token was taken.
"""

import logging
from collections.abc import Sequence
from functools import partial

import trio

from node.network.addresses import LOOKUPS_MAX, connect_tcp
from node.network.dialling import Race
from node.network.reach import few_names, host_and_port
from node.network.tls.certificate import calling_context
from node.network.tls.socket import Ended, TlsSocket
from protocol.bulk_ways import TAKEN, BulkOffer, check_certificate, proof_of
from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId

log = logging.getLogger("fednode.network")

WAYS_MAX = 6  # tried of a peer's addresses: where its connection goes, two of a machine, what its owner announced


class TlsCaller:
    """The side that connects. `me`: who that is."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._context = calling_context()
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)

    async def connect(self, peer: NodeId, offer: BulkOffer, addresses: Sequence[str]) -> TlsSocket | None:
        """A connection to `peer` as it has offered it, at the first of its doors' `addresses` that leads there; None
        where none does. Set a deadline around it, and look at the door afterwards."""
        ways = few_names(dict.fromkeys(addresses))[:WAYS_MAX]
        race = Race(partial(self._try, peer, offer), TlsSocket.cut, lambda error: False)
        try:
            await race.run(ways)
        except BaseException:
            if race.found is not None:
                race.found[1].cut()
            raise
        if race.found is not None:
            return race.found[1]
        for way, failure in race.failures.items():
            if isinstance(failure, RemoteProtocolError):
                log.warning("somebody else than %s answers at %s, where it offered blobs", peer, way)
            else:
                log.debug("no blobs from %s at %s: %r", peer, way, failure)
        return None

    async def _try(self, peer: NodeId, offer: BulkOffer, way: str) -> TlsSocket:
        host, port = host_and_port(way)
        tls = TlsSocket(await connect_tcp(host, port, self._lookups), self._context, is_server=False)
        try:
            await tls.shake_hands()
            check_certificate(offer, tls.certificate())
            await tls.send(proof_of(offer.token, self._me, peer))
            taken = bytearray(len(TAKEN))
            await tls.receive_into(memoryview(taken), lambda size: None)
            if taken != TAKEN:
                raise Ended
            return tls
        except BaseException:
            tls.cut()
            raise
