"""Whole runs in every codec: the manifest names one for updates and one for checkpoints; all nodes hold the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hostile_ground import CONFIGURATION, HostileGround, on_hostile_ground

from aggregation.codecs.registry import CODECS, codec_named, difference_bytes
from aggregation.tensors.schema import Schema
from node.run.combine_settings import settings_of
from node.seams import TrainResult
from protocol.keys import BlobId, RunId
from protocol.manifest.keys import KEYS
from protocol.manifest.manifest import Manifest
from protocol.manifest.read import ManifestError, read_configuration
from protocol.manifest.sections import FEEDBACK_CODECS, TOP_CODECS, Aggregation
from simulations.training.trainer import InProcessSession


def _manifest(**keys: str) -> Manifest:
    text = "\n".join(f'{key} = "{value}"' for key, value in keys.items())
    text = f'name = "a"\n[task]\nname = "digits"\n[data]\nname = "d"\n[aggregation]\n{text}'
    return read_configuration(text).configuration.manifest()


def test_the_manifests_codecs_are_those_that_there_are() -> None:
    assert KEYS["aggregation.codec"].choices == tuple(CODECS)
    assert {name for name, codec in CODECS.items() if codec.needs_feedback} == set(FEEDBACK_CODECS)
    assert set(CODECS) - set(KEYS["aggregation.checkpoint_codec"].choices) == set(TOP_CODECS)
    assert get_args(Aggregation.model_fields["codec"].annotation) == tuple(CODECS)


@pytest.mark.parametrize(
    ("codec", "given", "of_checkpoints"),
    [
        ("fp32", None, "fp32"),
        ("bf16", None, "bf16"),
        ("fp16", None, "fp16"),
        ("int8", None, "bf16"),
        ("top10", None, "bf16"),
        ("top1", "fp32", "fp32"),
        ("fp32", "int8", "int8"),
    ],
)
def test_checkpoints_travel_in_the_updates_codec_unless_it_is_too_coarse(
    codec: str, given: str | None, of_checkpoints: str
) -> None:
    settings = settings_of(_manifest(codec=codec, **({"checkpoint_codec": given} if given else {})))
    assert (settings.update_codec, settings.checkpoint_codec) == (codec, of_checkpoints)


def test_rules_that_need_whole_updates_are_refused_with_a_top_codec() -> None:
    for key, value in (("rule", "median"), ("pre_aggregation", "nnm")):
        with pytest.raises(ManifestError, match=rf"aggregation\.codec is top1: .* aggregation\.{key} ="):
            _manifest(codec="top1", **{key: value})


@pytest.mark.parametrize(
    ("codec", "of_checkpoints"),
    [("fp16", ""), ("int8", ""), ("int8", "int8"), ("top10", ""), ("top1", "fp32")],
)
def test_a_run_in_a_codec(codec: str, of_checkpoints: str, tmp_path: Path) -> None:
    """Each voter makes every checkpoint from its coded difference, and an audit finds nothing."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        text = CONFIGURATION.format(name="run", rounds=2, nodes=3, audit="full", join_deadline_s=600.0)
        keys = f'codec = "{codec}"' + (f'\ncheckpoint_codec = "{of_checkpoints}"' if of_checkpoints else "")
        text = text.replace('codec = "fp32"', keys)
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        ended = await ground.ended(run, lives)
        newest = [known.driver.machine.ledger.newest for known in ended if known.driver is not None]
        assert {(checkpoint.round, checkpoint.outcome) for checkpoint in newest} == {(2, "finished")}
        assert len({checkpoint.model for checkpoint in newest}) == 1
        schema = Schema.from_bytes(await lives[0].disk.read_blob(BlobId(newest[0].tensor_schema)))
        for life, known in zip(lives, ended, strict=True):
            assert known.driver is not None
            assert not known.driver.machine.context.deposed
            told = await life.node.service.curves.updates(run, NO_FILTERS)
            assert {row["outcome"] for row in told} == {"used"}
            assert {row["bytes"] for row in told} == {difference_bytes(schema, codec_named(codec))}

    on_hostile_ground(tmp_path, test)


NO_FILTERS: dict[str, Any] = {"after_round": None, "before_round": None, "node": None, "limit": 1000}


def test_a_code_that_no_encoder_writes_is_refused_and_the_round_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    honest = InProcessSession.train

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(3)
        culprit = lives[2].node.identity.node_id

        async def train(self: InProcessSession, *arguments: Any) -> TrainResult:
            result = await honest(self, *arguments)
            if self._loaded is not None and self._loaded._spec.node_id == culprit:
                return replace(result, update=b"\xff\xff" + bytes(result.update)[2:])
            return result

        monkeypatch.setattr(InProcessSession, "train", train)
        text = CONFIGURATION.format(name="run", rounds=2, nodes=3, audit="full", join_deadline_s=600.0)
        text = text.replace('codec = "fp32"', 'codec = "top10"')
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            assert not known.driver.machine.context.deposed
        told = await lives[0].node.service.curves.updates(run, NO_FILTERS)
        assert {(row["node_id"] == culprit, row["outcome"]) for row in told} == {(False, "used"), (True, "refused")}

    on_hostile_ground(tmp_path, test)
