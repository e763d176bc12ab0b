"""Both ends of linking, and of a sibling's knock, for the tests."""

from dataclasses import dataclass, replace

from group_helpers import ANN, GROUP_KEY, NOW, Person, new_group, secret

from protocol.entrance.admitting import EntranceHost, Hosted
from protocol.entrance.device_link import DeviceToken, link_id_of, make_device_token, open_device_token
from protocol.entrance.link_host import LinkDesk
from protocol.entrance.linking import Linking, LinkMade, LinkOutput, ShutOut, SiblingKnock
from protocol.entrance.outputs import Close, KeepSiblings, SendFrame, TurnedAway
from protocol.entrance.siblings import GroupTold, Siblings
from protocol.fields import NodeAddresses
from protocol.group.key import seal_key_of
from protocol.group.log import GroupLog
from protocol.keys import Hash, NodeId

HOUR = 3600
LAPTOP, TOWER, PHONE = (Person(name, member="ann") for name in ("laptop", "tower", "phone"))
WHERE = NodeAddresses(node_id=ANN.node_id, entrance_addresses=("/ip4/192.0.2.7/tcp/4002",))
STUDY = GroupTold(group=new_group().group, name="study", admission=Hash("ab" * 32))
RECORD = b"an address record"


@dataclass
class Talk:
    """What came of a whole conversation."""

    made: LinkMade | None
    turned_away: str
    outcome: object
    kept: int
    closed: Close | None
    frames: list[bytes]


def own_nodes(*others: Person) -> Siblings:
    """What Ann's node knows: itself, and `others`."""
    siblings = Siblings(ANN.member_id)
    for node in (ANN, *others):
        siblings.add_certificate(node.certificate)
    return siblings


def token_text_of(siblings: Siblings | None, *, number: int = 0, expires_at: int = NOW + HOUR) -> str:
    """A token of Ann's, which she keeps in `siblings`."""
    seed = secret("device", number)
    if siblings is not None:
        siblings.open_link(link_id_of(seed), expires_at=expires_at, now=NOW)
    return make_device_token(ANN.member_key, member_name="ann", seed=seed, expires_at=expires_at, host=WHERE)


def token_of(siblings: Siblings | None, *, number: int = 0, expires_at: int = NOW + HOUR) -> DeviceToken:
    return open_device_token(token_text_of(siblings, number=number, expires_at=expires_at), now=NOW)


def desk(siblings: Siblings, *, with_key: bool = True) -> LinkDesk:
    return LinkDesk(siblings, ANN.member_key if with_key else None, "ann", (STUDY,), (RECORD,))


def host(
    siblings: Siblings,
    *,
    peer: Person = LAPTOP,
    by: Person = ANN,
    with_key: bool = True,
    nonce: object = 1,
    logs: tuple[GroupLog, ...] = (),
) -> EntranceHost:
    return EntranceHost(
        {log.group: Hosted(log, GROUP_KEY) for log in logs},
        by.key,
        peer=peer.node_id,
        nonce=secret("nonce", nonce),
        ephemeral_secret=secret("ephemeral", nonce),
        desk=desk(siblings, with_key=with_key),
    )


def machine(token: DeviceToken, who: Person = LAPTOP, *, at: Person = ANN, seed: bytes | None = None) -> Linking:
    """`who`, which has the token, or only its id and another seed."""
    if seed is not None:
        token = replace(token, seed=seed)
    return Linking(token, who.key, node_name=who.name, seal_key=seal_key_of(who.seal_secret), peer=at.node_id)


def talk(guest: Linking | SiblingKnock, at: EntranceHost, *, now: int = NOW) -> Talk:
    """Carry frames to and fro until the guest's end has its result."""
    result = Talk(None, "", None, 0, None, [])
    waiting: list[LinkOutput] = list(guest.open())  # type: ignore[arg-type]
    while not guest.ended:
        (output,) = waiting
        assert isinstance(output, SendFrame)
        waiting = []
        result.frames.append(output.frame)
        for heard in at.receive(output.frame, now=now):
            if isinstance(heard, SendFrame):
                assert not waiting
                result.frames.append(heard.frame)
                waiting += guest.receive(heard.frame)  # type: ignore[arg-type]
            elif isinstance(heard, KeepSiblings):
                assert not waiting  # durable before it is told
                result.kept += 1
            elif isinstance(heard, Close):
                result.closed = heard
    (result.outcome,) = waiting
    if isinstance(result.outcome, LinkMade):
        result.made = result.outcome
    elif isinstance(result.outcome, TurnedAway):
        result.turned_away = result.outcome.reason.code
    elif isinstance(result.outcome, ShutOut):
        result.turned_away = "shut-out"
    assert at.ended
    return result


def node_of(number: int) -> NodeId:
    return Person(f"node-{number}", member="ann").node_id
