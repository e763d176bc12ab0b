"""Who may read a run's blobs, and what a late update weighs in a real sum. docs/protocol.md §8.16, §8.18, §8.20."""

from dataclasses import replace
from pathlib import Path

from hostile_ground import HostileGround, on_hostile_ground

from protocol.keys import BlobId, NodeId
from protocol.run.checkpoint import checkpoint_name, open_offer
from protocol.run.events import Combine, Recompute


def test_who_may_read_what_in_a_run(tmp_path: Path) -> None:
    """A checkpoint is for the roster, also where it is somebody's update besides; an update is for the aggregator."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3)
        await ground.ended(run, lives)
        machines = [life.node.runs.known[run].driver.machine for life in lives]  # type: ignore[union-attr]
        aggregator = machines[0].election.aggregator
        owner = next(at for at, machine in enumerate(machines) if machine.context.me != aggregator)
        offer = machines[owner].participation.offer
        assert offer is not None
        members = {machine.context.me for machine in machines} - {machines[owner].context.me}

        def readers(blob: str) -> set[str]:
            runs = lives[owner].node.runs
            return {peer for peer in members if runs.may_read(peer, BlobId(blob))}

        checkpoint = machines[owner].ledger.newest
        assert readers(offer[1].update) == {aggregator}
        assert readers(checkpoint.model) == members
        machines[owner].participation.offer = (offer[0], offer[1].model_copy(update={"update": checkpoint.difference}))
        assert readers(checkpoint.difference) == members
        # §14.3: what is fetched just now for a checkpoint is for the roster; an update on its way is for nobody yet.
        data = lives[owner].node.runs.known[run].driver._data  # type: ignore[union-attr]
        data.fetching.kinds.update({BlobId("ab" * 32): "checkpoint", BlobId("cd" * 32): "update"})
        assert readers("ab" * 32) == members
        assert readers("cd" * 32) == set()
        # And so is what has come for it, until the ledger has the checkpoint; not what it only names.
        data.fetching.kinds.clear()
        assert readers("ab" * 32) == set()
        assert checkpoint.difference in data.fetching._came
        data.fetching._came.append(BlobId("ab" * 32))
        assert readers("ab" * 32) == members

    on_hostile_ground(tmp_path, test)


def test_auditors_read_the_updates_of_a_checkpoint_and_who_was_deposed_does_not(tmp_path: Path) -> None:
    """§8.16, §8.18."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3, audit="full")
        await ground.ended(run, lives)
        runs = lives[0].node.runs
        driver = runs.known[run].driver
        assert driver is not None
        machine = driver.machine
        others = [NodeId(node) for node in machine.ledger.newest.roster if node != machine.context.me]
        (update, *_) = machine.ledger.update_blobs()
        assert all(runs.may_read(peer, BlobId(update)) for peer in others)
        machine.context.deposed[others[0]] = "two checkpoints"
        assert [runs.may_read(peer, BlobId(update)) for peer in others] == [False, True]

    on_hostile_ground(tmp_path, test)


def test_what_was_here_before_a_round_does_not_pass_with_it(tmp_path: Path) -> None:
    """The same bytes may be the model of another run, registered under a name, or an artifact."""

    async def test(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        run = await ground.propose(life, rounds=2, nodes=1)
        await ground.ended(run, [life])
        driver = life.node.runs.known[run].driver
        assert driver is not None
        blobs, disk = driver._data.blobs, life.node.disk
        model = await disk.put_blob(b"a model with a name")
        assert await blobs.put_for_a_round(b"a model with a name", 3) == model
        update = await blobs.put_for_a_round(b"an update", 3)
        await blobs.give_up(until=3)
        assert [await disk.has_blob(blob) for blob in (model, update)] == [True, False]

    on_hostile_ground(tmp_path, test)


def test_a_late_update_enters_sum_and_recomputation_with_half_of_its_samples(tmp_path: Path) -> None:
    """§8.18, §8.20."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3, audit="full")
        (known, *_) = await ground.ended(run, lives)
        assert known.driver is not None
        machine, data, audit = known.driver.machine, known.driver._data, known.driver._audit
        last = machine.ledger.newest
        base = machine.ledger.committed_before(last)
        assert base is not None
        wanted = Combine(last.round, 1, base, tuple(entry.offer for entry in last.updates), ())
        in_time, late = await data.combine(wanted), await data.combine(replace(wanted, round=last.round + 1))
        samples = {open_offer(entry.offer).body.node: open_offer(entry.offer).body.samples for entry in last.updates}
        for entries, share in ((in_time.entries, 1), (late.entries, 2)):
            assert {open_offer(e.offer).body.node: e.weight for e in entries} == {
                node: count // share for node, count in samples.items()
            }
        made = {"updates": late.entries, "exponents": late.exponents, "model": late.model}
        made |= {"difference": late.difference, "server_state": late.server_state, "round": last.round + 1}
        checkpoint = last.model_copy(update=made)
        again = Recompute(checkpoint_name(checkpoint), checkpoint, base, ())
        assert await audit.recompute(again) == ""
        wrong = replace(again, checkpoint=checkpoint.model_copy(update={"updates": in_time.entries}))
        assert "weight" in (await audit.recompute(wrong) or "")

    on_hostile_ground(tmp_path, test)


def test_an_auditor_compares_all_that_was_made(tmp_path: Path) -> None:
    """§8.18: whatever else is right."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=2, nodes=3, audit="full")
        (known, *_) = await ground.ended(run, lives)
        assert known.driver is not None
        last = known.driver.machine.ledger.newest
        base = known.driver.machine.ledger.committed_before(last)
        assert base is not None
        lies = [
            {},
            {"model": last.difference},
            {"difference": last.model},
            {"server_state": last.model},
            {"exponents": tuple(exponent + 1 for exponent in last.exponents)},
            {"parts": ()},
            {"updates": last.updates[:-1]},
        ]
        for lie in lies:
            checkpoint = last.model_copy(update=lie)
            verdict = await known.driver._audit.recompute(Recompute(checkpoint_name(checkpoint), checkpoint, base, ()))
            assert bool(verdict) is bool(lie), f"{lie} is found to be {verdict!r}"

    on_hostile_ground(tmp_path, test)
