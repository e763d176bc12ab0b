"""The keys of groups lie on the disk under what the home's passphrase opens, and a worker hears nothing of it."""

from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.home.disk import FileDisk
from node.home.identity import Identity, Keys
from node.home.sealing import Vault, is_sealed
from node.membership.group_place import GroupPlace, check_has_key, create_place, load_place
from node.training.worker_process import worker_environment
from protocol.errors import FednodeError
from protocol.group.key import seal_key_of
from protocol.identity import make_certificate
from protocol.keys import member_id_of, node_id_of, public_key_of

NODE, MEMBER, SEAL_SECRET = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), b"\5" * 32


def identity(vault: Vault) -> Identity:
    names = {"member_name": "Ann", "node_name": "alpha", "seal_key": seal_key_of(SEAL_SECRET), "issued_at": 1}
    certificate = make_certificate(MEMBER, NODE, **names)  # type: ignore[arg-type]
    node_id, member_id = node_id_of(public_key_of(NODE)), member_id_of(public_key_of(MEMBER))
    return Identity(Keys(NODE, MEMBER, SEAL_SECRET, vault), "alpha", node_id, member_id, certificate)


def made(home: Path, vault: Vault) -> GroupPlace:
    async def make() -> GroupPlace:
        disk = FileDisk(home)
        place = await create_place("ward", disk, identity(vault), 1.0, lambda count: b"\7" * count)
        disk.close()
        return place

    return trio.run(make)


def loaded(home: Path, place: GroupPlace, vault: Vault) -> GroupPlace:
    async def load() -> GroupPlace:
        disk = FileDisk(home)
        try:
            return await load_place(place.group, disk, identity(vault))
        finally:
            disk.close()

    return trio.run(load)


def test_a_copy_of_the_home_gives_no_gossip(tmp_path: Path) -> None:
    vault = Vault(bytes(32))
    place = made(tmp_path, vault)
    (file,) = tmp_path.glob("group-*.keys")
    assert is_sealed(file.read_bytes())
    for path in tmp_path.rglob("*"):
        assert place.key.secret not in (path.read_bytes() if path.is_file() else b""), path
    assert loaded(tmp_path, place, vault).keys == place.keys
    with pytest.raises(FednodeError, match=r"home\.key is gone"):
        loaded(tmp_path, place, Vault())
    with pytest.raises(FednodeError, match="another home"):
        loaded(tmp_path, place, Vault(b"\1" * 32))


def test_without_a_passphrase_they_are_as_before(tmp_path: Path) -> None:
    place = made(tmp_path, Vault())
    (file,) = tmp_path.glob("group-*.keys")
    assert place.key.secret in file.read_bytes()
    assert loaded(tmp_path, place, Vault()).keys == place.keys
    assert loaded(tmp_path, place, Vault(bytes(32))).keys == place.keys  # until it is written the next time


def test_a_file_without_a_key_is_damaged(tmp_path: Path) -> None:
    place = made(tmp_path, Vault())
    (file,) = tmp_path.glob("group-*.keys")
    file.write_bytes(b"\x80")
    with pytest.raises(FednodeError, match="there is no key in them"):
        check_has_key(loaded(tmp_path, place, Vault()))


@pytest.mark.parametrize("name", ["FEDNODE_PASSPHRASE", "FEDNODE_NEW_PASSPHRASE", "FEDNODE_BACKUP_PASSPHRASE"])
def test_no_passphrase_reaches_a_worker(tmp_path: Path, name: str) -> None:
    environment = worker_environment({"PATH": "/bin", name: "correct horse battery"}, tmp_path, 1)
    assert "PATH" in environment
    assert not [key for key, value in environment.items() if "horse" in value or key == name]
