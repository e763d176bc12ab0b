"""Updates that are no use (NaN, an infinity, huge values, too large a norm) are refused by name: people see which node,
why, and against which bound; the round goes on with the others, and the model stays finite."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, alive, on_hostile_ground

from node.api.service.service import LogsQuery
from node.seams import TrainResult
from protocol.keys import BlobId, RunId
from simulations.training.trainer import InProcessSession

ROUNDS = 3
WORDS = "holds a NaN or an infinity (update-not-finite)"


def spoilt(value: float, is_spoilt: Callable[[str], bool]) -> Callable[..., Awaitable[TrainResult]]:
    """Training whose update begins with `value`, at the nodes that are to be so."""
    honest = InProcessSession.train

    async def train(self: InProcessSession, *arguments: Any) -> TrainResult:
        result = await honest(self, *arguments)
        if self._loaded is not None and is_spoilt(self._loaded._spec.node_id):
            values = np.frombuffer(result.update, "<f4").copy()
            values[0] = value
            return replace(result, update=values.tobytes())
        return result

    return train


@pytest.mark.parametrize(
    ("value", "norm_max", "reason"),
    [
        (float("nan"), "", "holds a NaN or an infinity"),
        (float("-inf"), "", "holds a NaN or an infinity"),
        (1e30, "", "holds a value of 2^64 or more"),
        (10.0, "norm_max = 5.0", "over the bound of 5 (norm-too-large)"),
    ],
)
def test_a_bad_update_is_refused_and_the_others_go_on(
    tmp_path: Path, monkeypatch: Any, value: float, norm_max: str, reason: str
) -> None:
    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        culprit = lives[2].node.identity.node_id
        monkeypatch.setattr(InProcessSession, "train", spoilt(value, lambda node: node == culprit))
        text = CONFIGURATION.format(name="run", rounds=ROUNDS, nodes=3, audit="none", join_deadline_s=600.0)
        text = text.replace("[aggregation]", f"[aggregation]\n{norm_max}")
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        (known, *_) = await ground.ended(run, lives)
        alive(*lives)
        model = known.driver.machine.ledger.newest.model
        assert np.isfinite(np.frombuffer(await lives[0].disk.read_blob(BlobId(model)), "<f4")).all()
        for life in lives:
            page = await life.node.service.logs(run, LogsQuery(node=life.node.identity.node_id, level="WARNING"))
            said = [row["message"] for row in page.lines]
            assert [line.split(" went")[0] for line in said] == ["round 1", "round 2", "round 3"]
            assert all("went without the update of node-2: " in line and reason in line for line in said), said

    on_hostile_ground(tmp_path, main)


def test_where_every_update_is_refused_each_node_says_why(tmp_path: Path, monkeypatch: Any) -> None:
    """Nothing is committed that would tell it. Each owner sees it at once: in run show, run logs and the inbox, once.
    Mended, stopped and resumed, the run goes on, and nobody has to look at it any more. docs/protocol.md §8.30."""
    spoils = [True]

    async def told(life: Life, run: RunId) -> tuple[str, list[str], list[str]]:
        """What the owner sees: WHY, the lines of the log, the letters."""
        me = life.node.identity.node_id
        known = life.node.runs.known[run]
        why = known.chronicle._states.get(me, ("", ""))[1]
        lines = (await life.node.service.logs(run, LogsQuery(node=me))).lines
        said = [row["message"] for row in lines if f"node-{life.number}: update refused: " in row["message"]]
        inbox = [each["text"] for each in await life.node.service.inbox.items() if each["kind"] == "refused-updates"]
        return why, said, inbox

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        monkeypatch.setattr(InProcessSession, "train", spoilt(float("nan"), lambda node: spoils[0]))
        run = await ground.propose(lives[0], nodes=3, rounds=ROUNDS)

        def is_told(life: Life) -> bool:
            known = life.node.runs.known.get(run)
            return known is not None and WORDS in known.chronicle._states.get(life.node.identity.node_id, ("", ""))[1]

        await ground.settled(lambda: all(map(is_told, lives)), "each is told", within_s=30.0)
        await trio.sleep(300)  # virtual time passes: the offers are repeated, and so is the answer
        alive(*lives)
        for life in lives:
            why, said, inbox = await told(life, run)
            assert why.startswith("update refused: its tensor "), why
            assert why.endswith(WORDS), why
            assert [line.endswith(WORDS) for line in said] == [True], said
            assert len(inbox) == 1, inbox
            assert "Ours were refused once in run, last by " in inbox[0]
            assert "in round 1: update-not-finite: its tensor " in inbox[0]
            (row,) = [
                each
                for each in (await life.node.service.run(run))["participants"]
                if each["node_id"] == life.node.identity.node_id
            ]
            assert (row["state"], row["reason"]) == ("WAITING", why)
        spoils[0] = False
        await lives[0].node.service.stop_run(run, "a fault in the task")
        await ground.ended(run, lives)
        await lives[0].node.service.resume_run(run)
        await ground.settled(lambda: not any(map(is_told, lives)), "the run goes on")
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            assert known.driver.machine.ledger.newest.outcome == "finished"
        alive(*lives)
        for life in lives:
            why, said, inbox = await told(life, run)
            assert (why, len(said), inbox) == ("", 1, [])

    on_hostile_ground(tmp_path, main)
