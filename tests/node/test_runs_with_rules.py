"""Runs with each rule against liars: every voter recomputes every checkpoint and finds the same bits (§8.26)."""

from pathlib import Path

import pytest
from hostile_ground import CONFIGURATION, HostileGround, on_hostile_ground

from node.run.combine_settings import settings_of
from protocol.keys import RunId
from protocol.manifest.read import read_configuration
from protocol.run.checkpoint import SET_ASIDE, Checkpoint

RULES = {
    "median": 'rule = "median"\nclip = "median"\npre_aggregation = "nnm"',
    "trimmed_mean": 'rule = "trimmed_mean"\nbyzantine_share = 0.3\nscreen_factor = 1.0',
    "krum": 'rule = "krum"\nclip = "norm"\nclip_norm = 0.5',
    "multi_krum": 'rule = "multi_krum"\nbyzantine_share = 0.25\npre_aggregation = "nnm"',
    "geometric_median": 'rule = "geometric_median"\nweighting = "samples"\nweight_max = 40\nclip = "median"',
    "centred_clipping": 'rule = "centred_clipping"\nclip_radius = 0.3',
    "mean": 'rule = "mean"\nweight_max = 50\nscreen_factor = 1.0\nclip = "median"',
}


def _text(keys: str, *, audit: str = "full", nodes: int = 4) -> str:
    text = CONFIGURATION.format(rounds=2, nodes=nodes, name="run", join_deadline_s=600.0, audit=audit)
    return text.replace('codec = "fp32"', f'codec = "bf16"\n{keys}')


@pytest.mark.parametrize("rule", RULES)
def test_every_voter_finds_the_same_bits(rule: str, tmp_path: Path) -> None:
    """§8.18, §8.26."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        service = lives[0].node.service
        run = RunId((await service.start_run(_text(RULES[rule]), None, None, {}))["run_id"])
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            ledger = known.driver.machine.ledger
            assert ledger.newest.outcome == "finished"
            assert not known.driver.machine.context.deposed
        _check_entries(rule, ledger.newest)

    on_hostile_ground(tmp_path, test)


def _check_entries(rule: str, checkpoint: Checkpoint) -> None:
    assert len(checkpoint.updates) == 4
    for entry in checkpoint.updates:
        assert bool(entry.weight) is not bool(entry.refused)
    codes = sorted(entry.refused for entry in checkpoint.updates if entry.refused)
    if rule == "krum":
        assert codes == [SET_ASIDE] * 3
        assert all("krum took those that lie nearest" in entry.reason for entry in checkpoint.updates if entry.refused)
    if rule in ("mean", "trimmed_mean"):  # of four different norms two are over the lower median
        assert codes == ["norm-outlier"] * 2
    assert bool(checkpoint.exponents) is (rule not in ("median", "trimmed_mean"))


def test_a_round_too_small_for_its_share_of_liars_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        text = _text('rule = "krum"\nbyzantine_share = 0.45', audit="none")
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            assert known.driver.machine.ledger.newest.outcome == "finished"

    with caplog.at_level("WARNING", "fednode.run"):
        on_hostile_ground(tmp_path, test)
    assert "round 1: of 4 updates krum 0.45 bears no liar, as 1 liar would take 5 updates" in caplog.text
    assert caplog.text.count("bears no liar") == 1, "it is told once, by whoever aggregates"


@pytest.mark.parametrize("rule", RULES)
def test_what_the_manifest_says_is_what_is_combined(rule: str) -> None:
    manifest = read_configuration(_text(RULES[rule])).configuration.manifest()
    settings, keys = settings_of(manifest), manifest.aggregation
    assert (settings.rule, settings.screen_factor) == (rule, keys.screen_factor)
    assert settings.weighting == ("samples" if rule in ("mean", "geometric_median") else "uniform")
    assert settings.clip == {"none": None, "norm": keys.clip_norm, "median": "median"}[keys.clip]
    assert settings.mix_share == (keys.byzantine_share if keys.pre_aggregation == "nnm" else None)
    given = {"byzantine_share": keys.byzantine_share, "weight_max": keys.weight_max, "radius": keys.clip_radius}
    assert settings.rule_parameters.items() <= given.items()
    for name in ("weight_max", "radius"):
        assert (name in settings.rule_parameters) is (given[name] is not None)
    assert ("byzantine_share" in settings.rule_parameters) is (rule in ("krum", "multi_krum", "trimmed_mean"))
