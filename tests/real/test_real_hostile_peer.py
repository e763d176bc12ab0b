"""A hostile peer on the raw wire, against real nodes that train meanwhile (docs/protocol.md §1 to §5, §13).

What each attack is, and what it gets, stands in hostile_strangers, hostile_blobs, hostile_crowds and hostile_members.
Checked is that they get that, that no handler but the entrance's was given a stranger's byte, that the friends' run
went on at half its pace at least, that no node grew by more than 50 MB meanwhile, and that nobody's facts were changed.
"""

from collections.abc import Iterator, Mapping

import hostile_blobs as blobs
import hostile_crowds as crowds
import hostile_members as members
import hostile_strangers as strangers
import msgpack
import pytest
from hostile_person import Ear
from hostile_scene import Attack, Scene
from nodes import RealNode, Study, real_nodes, wait_until

from protocol.errors import RemoteProtocolError
from protocol.group.key import GroupKey, open_gossip
from protocol.limits import HANDSHAKE_DEADLINE_S

TO_SAY_SOMETHING_S = 10.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("hostile")
    with real_nodes(base, "alpha", "beta", "gamma") as nodes:
        study = Study(nodes, base)
        study.form()
        scene = Scene(study)
        yield scene
        scene.beta.client.stop_run(scene.run, "the test is over")
        study.all_end(scene.run)
        study.check_same_commits(scene.run)


BOUTS = {
    "strangers at the door": crowds.LOITERING | strangers.AT_THE_DOOR,
    "strangers at the entrance": strangers.AT_THE_ENTRANCE,
    "strangers over TLS": blobs.OVER_TLS,
    "members": members.INSIDE | members.GOSSIP,
    "a member who fills memory": members.MEMORY,
}


@pytest.mark.parametrize("bout", BOUTS)
def test_friends_train_on_while_they_are_attacked_by(scene: Scene, bout: str) -> None:
    attacks = BOUTS[bout]
    check(scene, attacks, at_once=len(attacks) if attacks is blobs.OVER_TLS else 1)


def check(scene: Scene, attacks: Mapping[Attack, str], at_once: int = 1) -> None:
    facts = scene.facts()
    found = scene.under(attacks, at_once)
    assert found == {attack.__name__: expected for attack, expected in attacks.items()}
    assert scene.facts() == facts
    assert scene.study.takes_part(scene.alpha, scene.run)


def keys_of(node: RealNode) -> dict[int, GroupKey]:
    """The group's keys that a node has, by its own files."""
    (file,) = node.home.glob("group-*.keys")
    return {int(epoch): GroupKey(int(epoch), key) for epoch, key in msgpack.unpackb(file.read_bytes()).items()}


def reads(scene: Scene, keys: Mapping[int, GroupKey], topic: str, data: bytes) -> bool:
    try:
        open_gossip(keys, scene.group, topic, data)
    except RemoteProtocolError:
        return False
    return True


def test_recorded_gossip_is_not_read_by_one_who_was_removed_before_it(scene: Scene) -> None:
    """5.11: mallory and trent record what is gossiped, as it is on the wire. Mallory is removed; trent hands it what
    comes after. With its own keys, and its key to unseal with, mallory reads all from before and nothing from after."""
    trent = scene.member("trent")
    theirs = {scene.mallory.group_key.epoch: scene.mallory.group_key}
    with Ear(scene.mallory, scene.door) as mallorys, Ear(trent, scene.door) as trents:
        for ear in (mallorys, trents):
            assert ear.listen_until(lambda ear=ear: ear.topics, TO_SAY_SOMETHING_S)
        scene.alpha.client.invite()
        for ear in (mallorys, trents):
            assert ear.listen_until(lambda ear=ear: ear.heard, TO_SAY_SOMETHING_S)
        before = mallorys.heard + trents.heard
        epochs = set(keys_of(scene.beta))
        scene.alpha.told("group", "remove", "mallory", "--reason", "it was caught", "--yes")
        wait_until(lambda: set(keys_of(scene.beta)) > epochs, "beta has a new key")
        assert mallorys.muxed.is_hung_up()
        trents.listen_until(lambda: False, 1.0)
        already = len(trents.heard)
        scene.alpha.client.invite()
        assert trents.listen_until(lambda: len(trents.heard) > already, TO_SAY_SOMETHING_S)
        after = trents.heard[already:]
    assert all(reads(scene, theirs, *each) for each in before)
    assert not any(reads(scene, theirs, *each) for each in after)
    assert all(reads(scene, keys_of(scene.beta), *each) for each in [*before, *after])
    check(scene, members.OUTSIDE_AGAIN)


def test_who_loiters_is_hung_up_on(scene: Scene) -> None:
    """Whoever opened a connection in the first of these tests and said too little on it."""
    assert all(scene.let_go(2 * HANDSHAKE_DEADLINE_S))


def test_friends_train_on_in_a_flood_of_joiners(scene: Scene) -> None:
    """Last, for after it the entrance lets nobody in for a minute."""
    check(scene, crowds.FLOOD)
