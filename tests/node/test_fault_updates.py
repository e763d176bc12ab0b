"""Updates that are no use (NaN, an infinity, huge values, too large a norm) are refused by name: people see which node,
why, and against which bound; the round goes on with the others, and the model stays finite."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_ground import CONFIGURATION, HostileGround, alive, on_hostile_ground

from node.api.service import LogsQuery
from node.seams import TrainResult
from protocol.keys import BlobId, RunId
from simulations.trainer import InProcessSession

ROUNDS = 3


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
    honest = InProcessSession.train

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        culprit = lives[2]

        async def train(self: InProcessSession, *arguments: Any) -> TrainResult:
            result = await honest(self, *arguments)
            if self._loaded is not None and self._loaded._spec.node_id == culprit.node.identity.node_id:
                values = np.frombuffer(result.update, "<f4").copy()
                values[0] = value
                return replace(result, update=values.tobytes())
            return result

        monkeypatch.setattr(InProcessSession, "train", train)
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
