"""What a stranger can have a host check at its entrance, by showing operations that it made up."""

import pytest
from group_helpers import ANN, BOB, CAT, EVE, GROUP_KEY, NOW, admit, new_group, secret

from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.introduction_host import UNPLACED_MAX
from protocol.entrance.messages import Introduce
from protocol.errors import RemoteProtocolError
from protocol.group.operation_kinds import RunPropose
from protocol.group.operations import sign_operation
from protocol.keys import Hash
from protocol.limits import SYNC_OPERATIONS_MAX
from protocol.wire import hash_of, pack


def test_made_up_operations_end_the_conversation_soon() -> None:
    """§4.11: what would have to wait does not enter; and a stranger has not many of them checked."""
    log = new_group()
    admit(log, CAT)
    host = EntranceHost(
        {log.group: Hosted(log, GROUP_KEY)},
        CAT.key,
        peer=EVE.node_id,
        nonce=bytes(32),
        ephemeral_secret=secret("e"),
    )

    def made_up(number: int) -> bytes:
        parents = (hash_of(b"nobody has this"),)
        payload = RunPropose(manifest=str(number).encode())
        return sign_operation(EVE.key, payload, group=log.group, parents=parents, previous=Hash(""), claimed_at=NOW)

    shown = 0
    with pytest.raises(RemoteProtocolError, match="no place"):  # noqa: PT012 - which message is one too many is open
        for first in range(0, 10_000, SYNC_OPERATIONS_MAX):
            operations = tuple(made_up(number) for number in range(first, first + SYNC_OPERATIONS_MAX))
            host.receive(pack(Introduce(group=log.group, operations=operations, last=False)), now=NOW)
            shown += len(operations)
    assert shown <= UNPLACED_MAX + SYNC_OPERATIONS_MAX
    assert not log.state().admits(BOB.node_id)
    assert log.state().admits(ANN.node_id)
