"""What the rules are for: real training with liars in it. docs/rules.md has the whole table."""

from typing import Literal

import numpy as np
import pytest

from aggregation.rules.registry import RULES
from simulations.faults.lies import COLLUDING_LIES, TRAINER_LIES, colluded, lied
from simulations.plan.read import Read
from simulations.plan.scenario import Cohort, Profile, Scenario
from simulations.play import play
from simulations.rule_trials import ATTACKS, EVENNESS, LABEL_FLIP, TRIED, Classroom, Trial

WITHIN = 0.03


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return Classroom(tmp_path_factory.mktemp("classroom"), seed=1)


def test_two_of_ten_liars_ruin_the_mean_and_not_the_robust_rules(room: Classroom) -> None:
    clean = room.accuracy(Trial("mean"))
    assert clean > 0.95
    for attack in ("sign flip", "scaled by ten"):
        for tried in ("trimmed mean", "median", "multi-Krum"):
            assert room.accuracy(Trial(tried, attack, 2)) >= clean - WITHIN, (tried, attack)
    assert room.accuracy(Trial("mean", "sign flip", 2)) < clean - WITHIN
    assert room.accuracy(Trial("mean", "scaled by ten", 2)) < 0.5


RUN = """
name = "liars"
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = 10
epochs = 5
batch_size = 32
learning_rate = 0.1
momentum = 0.9
[aggregation]
rule = "{rule}"
"""


def _whole_run(rule: str, lie: Literal["sign-flip", "scaled"] | None = None) -> float:
    """The accuracy that ten simulated nodes come to, of whom two lie: with their group, network, votes and commits."""
    cohorts = (Cohort(name="honest", count=8), Cohort(name="others", count=2, lies=lie))
    scenario = Scenario(title="two lie", nodes=10, alpha=EVENNESS, network=Profile(), cohort=cohorts)
    played = play(Read("two lie", scenario, RUN.format(rule=rule), {}), 10, 0, watching=False)
    assert (played.outcome, played.rounds_committed) == ("FINISHED", 10)
    assert played.accuracy is not None
    return played.accuracy


@pytest.mark.slow
def test_nor_do_they_in_whole_runs_of_simulated_nodes() -> None:
    clean = _whole_run("mean")
    assert clean > 0.95
    lies: tuple[Literal["sign-flip", "scaled"], ...] = ("sign-flip", "scaled")
    for lie in lies:
        assert _whole_run("trimmed_mean", lie) >= clean - WITHIN, lie
        assert _whole_run("mean", lie) < clean - WITHIN, lie


def test_a_trial_gives_the_same_accuracy_again(room: Classroom) -> None:
    trial = Trial("trimmed mean", "random noise", 1)
    assert room.accuracy(trial, rounds=2) == room.accuracy(trial, rounds=2)
    assert room.accuracy(trial, rounds=2) != room.accuracy(Trial("trimmed mean"), rounds=2)


def test_every_rule_is_tried_by_every_attack() -> None:
    assert {str(settings.get("rule", "mean")) for settings in TRIED.values()} == set(RULES)
    assert set(ATTACKS.values()) <= {LABEL_FLIP, *TRAINER_LIES, *COLLUDING_LIES}
    for tried in TRIED:
        assert Trial(tried).settings.make_rule()


def test_lies_are_what_they_are_called() -> None:
    own = np.array([3.0, -4.0], np.float32)
    random = np.random.default_rng(0)
    told = {lie: lied(own, lie, random) for lie in TRAINER_LIES}
    assert told["sign-flip"].tolist() == [-3.0, 4.0]
    assert told["scaled"].tolist() == [30.0, -40.0]
    assert told["zeros"].tolist() == [0.0, 0.0]
    assert np.isnan(told["nan"]).any()
    assert own.tolist() == [3.0, -4.0]
    many = np.ones(10_000, np.float32)
    assert np.std(lied(many, "loud-noise", random)) == pytest.approx(10.0, rel=0.05)
    with pytest.raises(ValueError, match="there are nan"):
        lied(own, "white", random)


def test_colluding_liars_know_what_the_honest_send() -> None:
    honest = np.array([[1.0, 2.0], [3.0, 2.0]])
    assert colluded(honest, "inner-product").tolist() == [-1.0, -1.0]
    assert colluded(honest, "little-is-enough").tolist() == [0.5, 2.0]  # 2 − 1.5 · 1, and nobody differs in the other
    with pytest.raises(ValueError, match="there are little"):
        colluded(honest, "white")
