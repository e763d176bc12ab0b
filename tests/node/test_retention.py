"""What a node keeps on its disk: which blobs go, which never do, and that nobody is deleted from under.

In virtual time, on simulated disks, with whole nodes.
"""

from functools import partial
from pathlib import Path

import pytest
import trio
from hostile_ground import HostileGround, Life, on_hostile_ground

from node.record.kept_blobs import ModelLists, sort_blobs
from node.record.retention import ABSENCE_S, EVERY_S, FIRST_AFTER_S, UNUSED_S, Removed
from node.run.driver import journal_name
from node.run.models import models_in
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId
from protocol.run.checkpoint import checkpoint_blobs
from tracker.retention import DAY_S, Rules
from tracker.tables.rows import ArtifactRow, LogRow, ModelRow, RegisteredModelRow, iso

ROUNDS = 12


async def held(life: Life) -> set[str]:
    return {entry.blob for entry in await life.disk.stored_blobs()}


async def after_a_run(ground: HostileGround, *, rounds: int = ROUNDS, nodes: int = 1) -> list[Life]:
    """A group with a run that ended a while ago."""
    lives = await ground.group(nodes)
    run = await ground.propose(lives[0], rounds=rounds, nodes=nodes)
    await ground.ended(run, lives)
    await forget_birth(lives[0])
    await trio.sleep(2 * UNUSED_S)  # virtual time passes
    return lives


async def forget_birth(life: Life) -> None:
    """The store's clock is the machine's and not the simulation's: let it have been there for ever."""
    await life.node.record.change(lambda connection: connection.execute("DELETE FROM store_marks"))


async def pruned(life: Life, **rules: str) -> Removed:
    await life.node.retention.set(rules)
    return await life.node.retention.prune()


async def models(life: Life) -> dict[int, str]:
    """By round, those whose blobs are here."""
    here = await held(life)
    return {row["round"]: row["model"] for row in await life.node.record.query("models") if row["model"] in here}


def test_the_checkpoints_of_a_run_that_is_over_go_by_the_rule(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground)
        assert set(await models(life)) == set(range(ROUNDS + 1))
        would = await life.node.retention.prune(dry_run=True)
        assert set(await models(life)) == set(range(ROUNDS + 1))
        did = await pruned(life, checkpoints="first,last=3,every=5")
        assert set(await models(life)) == {0, 5, 10, 11, 12}
        assert did.blobs["checkpoints"] == ROUNDS + 1 - 5
        assert would.blobs["checkpoints"] in (8, 9)  # by default 0, 10, 11 and 12 stay, and the best, if it is another
        assert str(did)
        again = await life.node.retention.prune()
        assert (str(again), again.spared) == ("", "")

    on_hostile_ground(tmp_path, story)


def test_the_newest_round_is_what_the_journal_says(tmp_path: Path) -> None:
    """The record takes in what others have written, and that may name a round that never was."""

    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground)
        every, row = await models(life), (await life.node.record.query("committed_models"))[0]
        forged = [ModelRow(row["run_id"], number, every[1], row["schema"], 40, 1.0) for number in (998, 999, 1000)]
        life.node.record.add(*forged)
        await pruned(life, checkpoints="last=3")
        assert set(await models(life)) == {0, 10, 11, 12}  # 0: while the run may go on

    on_hostile_ground(tmp_path, story)


def test_what_is_best_and_what_has_a_name_stays(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground)
        record, every = life.node.record, await models(life)
        rows = await record.query("committed_models")
        best = max((row["accuracy"], row["round"]) for row in rows if row["accuracy"] is not None)[1]
        run_id = rows[0]["run_id"]
        schema = rows[0]["schema"]
        record.add(RegisteredModelRow("ours", 1, run_id, 4, every[4], schema, 1.0))
        record.add(RegisteredModelRow("gone", 1, run_id, 3, every[3], schema, 1.0, removed=True))
        await pruned(life, checkpoints="best")
        assert set(await models(life)) == {0, 4, best, ROUNDS}  # 0: while the run may go on
        assert schema in await held(life)

    on_hostile_ground(tmp_path, story)


def test_a_run_under_way_is_left_alone_unless_its_owner_says_so(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await ground.group(1)
        run = await ground.propose(life, rounds=100_000, nodes=1)
        known = life.node.runs.known
        await ground.settled(lambda: run in known and known[run].driver is not None, "the start")
        ledger = known[run].driver.machine.ledger
        await ground.settled(lambda: ledger.committed_round >= ROUNDS, "rounds")
        await life.node.service.stop_run(run, "")
        await ground.settled(lambda: ledger.has_ended, "the stop")
        await forget_birth(life)
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        await life.node.service.resume_run(run)
        await ground.settled(lambda: not ledger.has_ended, "the resumption")
        before = await models(life)
        await pruned(life, checkpoints="last=1")
        assert set(before) <= set(await models(life))
        await pruned(life, checkpoints="last=1,running")
        now = await models(life)
        assert not {1, 2, 3, 4, 5} & set(now)
        round_before = ledger.committed_round
        await ground.settled(lambda: ledger.committed_round > round_before + 2, "more rounds")

    on_hostile_ground(tmp_path, story)


@pytest.mark.parametrize("audit", ["none", "full"])
def test_what_led_to_nothing_goes_after_restarts_and_the_run_goes_on(audit: str, tmp_path: Path) -> None:
    """Nodes that are killed in the middle of rounds leave updates, differences and server states behind."""

    async def story(ground: HostileGround) -> None:
        lives = await ground.group(3)
        run = await ground.propose(lives[0], rounds=20, nodes=3, audit=audit)
        ledger_of = lambda life: life.node.runs.known[run].driver.machine.ledger  # noqa: E731
        for round_number in (2, 5, 8):
            await ground.settled(
                lambda n=round_number: (
                    run in lives[0].node.runs.known
                    and lives[0].node.runs.known[run].driver is not None
                    and ledger_of(lives[0]).committed_round >= n
                ),
                f"round {round_number}",
            )
            for life in lives[: 1 + round_number % 2]:
                await ground.restart(life)
        await ground.ended(run, lives)
        orphan = await lives[1].disk.put_blob(b"what nobody has ever named")
        await forget_birth(lives[0])
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        for life in lives:
            known = life.node.runs.known[run]
            removed = await pruned(life, checkpoints="all")
            assert removed.spared == ""
            left = await held(life)
            of_models = models_in(await life.disk.records(journal_name(run)))
            needed = set(known.driver.machine.ledger.blobs()) | of_models.schemas
            assert left <= needed | {blob for blobs in of_models.rounds.values() for blob in blobs}
            assert set(known.driver.machine.ledger.blobs()) <= left
        assert orphan not in await held(lives[1])
        await lives[0].node.service.extend_run(run, 2)
        await ground.settled(lambda: all(ledger_of(life).committed_round == 22 for life in lives), "two rounds more")

    on_hostile_ground(tmp_path, story)


def test_pruning_all_the_time_disturbs_no_run(tmp_path: Path) -> None:
    """Blobs are as old as can be the moment that they are there; only what the runs say keeps them."""

    async def story(ground: HostileGround) -> None:
        lives = await ground.group(3)
        await forget_birth(lives[0])
        for life in lives:
            await life.node.retention.set({"checkpoints": "last=1,running"})

        async def prune(life: Life) -> None:
            while True:
                await life.node.retention.prune()
                await trio.sleep(0.5)  # virtual time passes

        with pytest.MonkeyPatch.context() as patch:
            # The shortest time in which a blob that was stored is named, on a disk that takes no time at all.
            patch.setattr("node.record.retention.UNUSED_S", 5.0)
            async with trio.open_nursery() as nursery:
                for life in lives:
                    nursery.start_soon(prune, life)
                for name in ("first", "second"):
                    run = await ground.propose(lives[0], rounds=8, nodes=3, name=name, audit="full")
                    await ground.ended(run, lives)
                nursery.cancel_scope.cancel()
        for known in lives[0].node.runs.known.values():
            names = {life.node.runs.known[known.run_id].driver.machine.ledger.committed.name for life in lives}
            assert len(names) == 1
            assert known.driver.machine.ledger.newest.outcome == "finished"

    on_hostile_ground(tmp_path, story)


def test_a_blob_that_was_just_stored_or_asked_for_stays(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=1)
        asked, stored, old = [await life.disk.put_blob(data) for data in (b"asked", b"stored", b"old")]
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        assert await life.disk.has_blob(asked)
        assert await life.disk.put_blob(b"stored") == stored
        await life.node.retention.prune()
        assert {asked, stored, old} & await held(life) == {asked, stored}

    on_hostile_ground(tmp_path, story)


def test_a_blob_that_becomes_needed_while_it_is_swept_stays(tmp_path: Path) -> None:
    """Between the marking and the deletion something may happen at every step: here a store, and a run's need."""

    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=1)
        blobs = [await life.disk.put_blob(b"garbage %d" % number) for number in range(60)]
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        discard, done = life.disk.discard_blob, list[str]()
        wanted = next(iter(life.node.runs.known.values())).driver._data.checkpoints._under_way

        async def discard_and_see(blob: BlobId, unused_s: float) -> int:
            done.append(blob)
            if len(done) == 5:  # these come later: nothing has been said about them yet
                rest = [blob for blob in blobs if blob not in done]
                await life.disk.put_blob(b"garbage %d" % blobs.index(rest[0]))
                wanted[rest[-1]] += 1
                discard_and_see.kept = {rest[0], rest[-1]}  # type: ignore[attr-defined]
            return await discard(blob, unused_s)

        life.disk.discard_blob = discard_and_see  # type: ignore[method-assign]
        await life.node.retention.prune()
        assert set(blobs) & await held(life) == discard_and_see.kept  # type: ignore[attr-defined]

    on_hostile_ground(tmp_path, story)


def test_artifacts_go_by_age(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=1)
        record, run = life.node.record, next(iter(life.node.runs.known))
        old, new = await life.disk.put_blob(b"old picture"), await life.disk.put_blob(b"new picture")
        record.add(ArtifactRow(run, "n", "old", "image", old, 11, life.node.now() - 10 * DAY_S))
        record.add(ArtifactRow(run, "n", "new", "image", new, 11, life.node.now()))
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        await pruned(life)
        assert {old, new} <= await held(life)
        assert (await pruned(life, artifacts="7d")).blobs["artifacts"] == 1
        assert {old, new} & await held(life) == {new}
        assert len(await record.query("artifacts")) == 2  # what it was stays on record

    on_hostile_ground(tmp_path, story)


def test_where_the_record_is_younger_than_the_blobs_what_it_cannot_know_stays(tmp_path: Path) -> None:
    """The record was lost, or is an older copy: what is nowhere named may be an artifact; models the journals know."""

    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground)
        unnamed = await life.disk.put_blob(b"an artifact of the lost record")
        await trio.sleep(2 * UNUSED_S)  # virtual time passes
        since = f"INSERT INTO store_marks VALUES ('whole_since', make_timestamp({int(life.node.now() * 1e6)}))"
        tables = ("models", "rounds", "artifacts", "metrics")
        await life.node.record.change(lambda c: [c.execute(since), *[c.execute(f"DELETE FROM {t}") for t in tables]])
        removed = await pruned(life, checkpoints="last=2")
        assert "older than this record" in removed.spared
        assert unnamed in await held(life)
        of_run = models_in(await life.disk.records(journal_name(next(iter(life.node.runs.known)))))
        kept = {number for number, blobs in of_run.rounds.items() if blobs & await held(life)}
        assert kept == {ROUNDS - 1, ROUNDS}

    on_hostile_ground(tmp_path, story)


def test_what_a_run_needs_to_go_on_is_kept_for_so_long_after_its_end(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        lives = await after_a_run(ground, rounds=2, nodes=2)
        life = lives[0]
        run, known = next(iter(life.node.runs.known.items()))
        ledger = known.driver.machine.ledger
        newest = ledger.newest
        state = life.node.trainer._state_of(run)  # type: ignore[attr-defined]
        assert state.exists()
        needed = set(checkpoint_blobs(newest))
        await pruned(life, ended="30d")
        assert needed <= await held(life)
        now = life.node.now
        life.node.now = lambda: now() + 31 * DAY_S
        removed = await pruned(life, ended="30d")
        assert removed.participants == 1
        assert not state.exists()
        assert newest.model in await held(life)  # the newest of a run always stays
        assert newest.difference not in await held(life)
        await life.node.service.extend_run(run, 1)  # without a server optimizer the model is enough
        await ground.settled(lambda: ledger.committed_round == 3, "one round more")
        assert state.exists()

    on_hostile_ground(tmp_path, story)


def test_a_run_whose_model_is_gone_says_so_when_it_is_to_go_on(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=1)
        run, known = next(iter(life.node.runs.known.items()))
        await life.disk.delete_blob(BlobId(known.driver.machine.ledger.newest.model))
        with pytest.raises(Refused, match="not kept here") as refused:
            await life.node.service.extend_run(run, 1)
        assert refused.value.code == "not-kept"

    on_hostile_ground(tmp_path, story)


def test_nothing_is_swept_while_a_run_could_not_be_taken_up(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=3)
        run = next(iter(life.node.runs.known))
        before = await held(life)
        life.disk.damage_journal(journal_name(run), 100)
        await ground.restart(life)
        removed = await pruned(life, checkpoints="last=1")
        assert "could not be taken up" in removed.spared
        assert await held(life) == before

    on_hostile_ground(tmp_path, story)


def test_rules_are_durable(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        life = await ground.born()
        await life.node.retention.set({"logs": "7d"})
        with pytest.raises(Refused):
            await life.node.retention.set({"logs": "7d", "spans": "soon"})
        await ground.restart(life)
        assert life.node.retention.rules.texts()["logs"] == "7d"
        assert life.node.retention.rules.texts()["spans"] == Rules().texts()["spans"]
        await life.disk.write("retention.json", b"{")
        with pytest.raises((FednodeError, BaseExceptionGroup)):
            await ground.restart(life)

    on_hostile_ground(tmp_path, story)


def test_the_node_prunes_by_itself_and_survives_what_goes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.record.retention.EVERY_S", 3600.0)

    async def story(ground: HostileGround) -> None:
        life = await ground.born()
        times: list[float] = []

        async def prune() -> Removed:
            times.append(trio.current_time())
            if len(times) == 1:
                raise FednodeError("The disk says no", remedy="wait")
            if len(times) == 2:
                raise KeyError("a bug")
            return Removed()

        life.node.retention.prune = prune  # type: ignore[method-assign,assignment]
        began = trio.current_time()
        with trio.move_on_after(FIRST_AFTER_S + 2.5 * 3600):
            await life.node.retention.run()
        assert [time - began for time in times] == [FIRST_AFTER_S, FIRST_AFTER_S + 3600, FIRST_AFTER_S + 7200]

    on_hostile_ground(tmp_path, story)


def test_a_node_whose_clock_may_be_ahead_waits_a_day(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        life = await ground.born()
        for absence_s, first_after_s in ((3600.0, FIRST_AFTER_S), (ABSENCE_S + 3600.0, EVERY_S)):
            line = LogRow("me", "", "INFO", "fednode", "the last one", life.node.now() - absence_s, int(absence_s))
            life.node.record.add(line)
            await life.node.record.flush()

            async def newest(name: str, line: LogRow = line) -> list[dict[str, str]]:
                return [{"time": iso(line.time)}]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(life.node.record, "query", newest)
                await life.node.retention.load()
            assert life.node.retention._first_after_s == first_after_s

    on_hostile_ground(tmp_path, story)


def test_a_journal_that_has_not_grown_is_read_once(tmp_path: Path) -> None:
    async def story(ground: HostileGround) -> None:
        (life,) = await after_a_run(ground, rounds=1)
        read, records = list[str](), life.disk.records

        async def counted(journal: str) -> list[bytes]:
            read.append(journal)
            return await records(journal)

        life.disk.records = counted  # type: ignore[method-assign]
        lists = ModelLists(life.disk)
        sort = partial(sort_blobs, life.node.runs.known, lists, life.node.record, Rules(), await held(life))
        assert await sort(life.node.now()) == await sort(life.node.now())
        assert len(read) == 1

    on_hostile_ground(tmp_path, story)
