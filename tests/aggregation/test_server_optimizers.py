"""Server optimizers against their papers' formulas in float64, and the bounds of what they carry along."""

from collections.abc import Callable, Mapping
from math import copysign, sqrt

import numpy as np
import pytest
from aggregation_examples import SCHEMA, make_round
from hypothesis import given
from hypothesis import strategies as st

from aggregation.combine import Combined, combine
from aggregation.server_optimizers import (
    LEARNING_RATE_MAX,
    MOMENTUM_MAX,
    SECOND_MOMENT_MAX,
    SERVER_OPTIMIZERS,
    STATE_VALUE_END,
    TAU_MIN,
    make_server_optimizer,
)
from aggregation.server_state import check_server_state
from aggregation.settings import CombineSettings
from protocol.errors import FednodeError

ADAPTIVE = ("adagrad", "adam", "yogi")
Second = Callable[[float, float, float], float]

TWINS: Mapping[str, Second] = {
    "adagrad": lambda v, square, beta2: v + square,
    "adam": lambda v, square, beta2: beta2 * v + (1 - beta2) * square,
    "yogi": lambda v, square, beta2: v - (1 - beta2) * square * (copysign(1, v - square) if v != square else 0),
}


@given(
    name=st.sampled_from(ADAPTIVE),
    # Of 11 bits, so that their squares are exact, and the sign of v − Δ² is no matter of rounding.
    differences=st.lists(st.integers(-(2**11), 2**11).map(lambda n: n / 2**8), min_size=1, max_size=12),
    beta1=st.sampled_from([0.0, 0.5, 0.9]),
    beta2=st.sampled_from([0.0, 0.5, 0.75]),
    tau=st.sampled_from([1e-3, 0.1, 1.0]),
    rate=st.sampled_from([0.01, 1.0, 3.0]),
)
def test_steps_are_those_of_the_paper(
    name: str, differences: list[float], beta1: float, beta2: float, tau: float, rate: float
) -> None:
    """arXiv:2003.00295, algorithm 2, in float64."""
    parameters = {"beta1": beta1, "tau": tau} | ({"beta2": beta2} if name != "adagrad" else {})
    optimizer = make_server_optimizer(name, rate, parameters)
    state = [np.zeros(1, np.float32), np.zeros(1, np.float32)]
    m = v = 0.0
    for difference in differences:
        step = optimizer.step(np.array([difference], np.float32), state)
        m = beta1 * m + (1 - beta1) * difference
        v = TWINS[name](v, difference**2, beta2)
        assert state[1][0] == pytest.approx(v, rel=1e-5, abs=1e-5)
        v = float(state[1][0])  # the next sign follows from what float32 has made of it
        expected = rate * m / (sqrt(v) + tau)
        assert step[0] == pytest.approx(expected, rel=1e-4, abs=1e-5 * rate / tau)


EXTREMES = st.floats(-(2.0**71), 2.0**71, width=32)


@given(
    name=st.sampled_from(sorted(SERVER_OPTIMIZERS)),
    differences=st.lists(EXTREMES | st.sampled_from([2.0**71, -(2.0**71), 0.0]), min_size=1, max_size=60),
    beta=st.sampled_from([0.0, 0.9, MOMENTUM_MAX]),
)
def test_no_admissible_difference_drives_a_state_out_of_bounds(
    name: str, differences: list[float], beta: float
) -> None:
    own = {"momentum": {"momentum": beta}, "none": {}, "adagrad": {"beta1": beta, "tau": TAU_MIN}}
    parameters = own.get(name, {"beta1": beta, "beta2": beta, "tau": TAU_MIN})
    optimizer = make_server_optimizer(name, LEARNING_RATE_MAX, parameters)
    state = [np.zeros(1, np.float32) for _ in optimizer.state_names]
    with np.errstate(all="raise", under="ignore"):
        for difference in differences:
            step = optimizer.step(np.array([difference], np.float32), state)
            assert np.isfinite(step).all()
            assert all(np.abs(values) < STATE_VALUE_END for values in state)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_bounds_hold_where_they_are_reached(name: str) -> None:
    optimizer = make_server_optimizer(name, 1.0, {"tau": TAU_MIN})
    state = [np.full(1, 2.0**85, np.float32), np.full(1, SECOND_MOMENT_MAX, np.float32)]
    for difference in (2.0**71, -(2.0**71)):
        assert np.isfinite(optimizer.step(np.array([difference], np.float32), state)).all()
        assert 0 <= state[1][0] <= SECOND_MOMENT_MAX


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_round_carries_its_state_on_and_is_the_same_bits_with_any_number_of_threads(name: str) -> None:
    run = CombineSettings(server_optimizer=name, server_learning_rate=0.1)
    combined: list[Combined] = []
    for threads in (1, 3):
        base, state = b"", b""
        for seed in (1, 2, 3):
            fresh, updates = make_round(SCHEMA, 4, seed=seed)
            result = combine(base or fresh, SCHEMA, updates, run, state, threads)
            base, state = result.model, result.server_state
            check_server_state(SCHEMA, run, state)
        combined.append(result)
    assert combined[0] == combined[1]
    assert len(state) == 8 * SCHEMA.averaged_elements
    assert combine(base, SCHEMA, updates, run, state).model != combine(base, SCHEMA, updates, run).model


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("adam", {"beta1": 1.0}, "beta1 of 1.0"),
        ("yogi", {"beta2": -0.1}, "beta2 of -0.1"),
        ("adagrad", {"beta2": 0.5}, "no parameter 'beta2'"),
        ("adam", {"tau": 0.0}, "tau of 0.0"),
        ("adam", {"tau": float("nan")}, "tau of nan"),
        ("momentum", {"momentum": 1.0}, "momentum of 1.0"),
    ],
)
def test_impossible_parameters_are_refused(name: str, parameters: dict[str, float], text: str) -> None:
    with pytest.raises(FednodeError, match=text):
        make_server_optimizer(name, 1.0, parameters)
