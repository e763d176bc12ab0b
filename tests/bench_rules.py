"""Figures of the rules, for the benchmark runner: `figures()` measures them in some two minutes.

For n updates of PARAMETERS parameters that weigh the same:

    RULEn_cpu_s       one thread's CPU seconds to combine updates that are checked, up to the new model in memory
    RULEn_vs_torch    how many times faster that is than torch in the plain way, with all updates in one tensor
    RULEn_vs_byzfl    the same against byzfl, where it has the rule and is installed

Updates are sampled: all is timed on SAMPLED parameters and, for what does not grow with them, on few; the rest is
multiplied. Ours reads float32 rows from memory as it would from files, and gives the same bits on any machine; the
others work on a tensor that is there already.
"""

import importlib.util
import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from bench_aggregation import layers

from aggregation.combine import combine
from aggregation.rules.registry import RULES
from aggregation.settings import CombineSettings
from aggregation.updates import Bounds, Checked, check_update, update_of
from protocol.manifest.defences import byzantine_count

PARAMETERS = 25_000_000
SAMPLED = 1_000_000
SAMPLED_FEW = 20_000  # to find what does not grow with the parameters
COUNTS = (10, 50, 100)
SHARE = 0.2
REPEATS = 3
PATIENCE_S = 2.0  # what takes longer is timed once
GEOMETRIC_MEDIAN_STEPS = 8
CLIPPING_STEPS = 3
BYZFL_ROOM_BYTES = 2**30  # its mixing copies every update as often as it is mixed: 32 GB for a hundred

Way = Callable[[torch.Tensor], object]


# --- torch in the plain way ------------------------------------------------------------------------------------------
def mean(rows: torch.Tensor) -> torch.Tensor:
    return rows.mean(0)


def median(rows: torch.Tensor) -> torch.Tensor:
    return rows.median(0).values


def trimmed_mean(rows: torch.Tensor) -> torch.Tensor:
    trimmed = byzantine_count(SHARE, len(rows))
    return rows.sort(0).values[trimmed : len(rows) - trimmed].mean(0)


def _krum_scores(rows: torch.Tensor) -> torch.Tensor:
    near = len(rows) - byzantine_count(SHARE, len(rows)) - 2
    return torch.cdist(rows, rows).square().sort(1).values[:, 1 : near + 1].sum(1)


def krum(rows: torch.Tensor) -> torch.Tensor:
    return rows[_krum_scores(rows).argmin()]


def multi_krum(rows: torch.Tensor) -> torch.Tensor:
    kept = len(rows) - byzantine_count(SHARE, len(rows))
    return rows[_krum_scores(rows).argsort()[:kept]].mean(0)


def geometric_median(rows: torch.Tensor) -> torch.Tensor:
    middle = rows.mean(0)
    for _ in range(GEOMETRIC_MEDIAN_STEPS):
        weights = 1 / (rows - middle).norm(dim=1).clamp(min=1e-6)
        middle = (rows * weights[:, None]).sum(0) / weights.sum()
    return middle


def centred_clipping(rows: torch.Tensor) -> torch.Tensor:
    centre = torch.zeros_like(rows[0])
    for _ in range(CLIPPING_STEPS):
        off = rows - centre
        centre = centre + (off * (1.0 / off.norm(dim=1)).clamp(max=1)[:, None]).mean(0)
    return centre


def mixed_trimmed_mean(rows: torch.Tensor) -> torch.Tensor:
    near = torch.cdist(rows, rows).argsort(1)[:, : len(rows) - byzantine_count(SHARE, len(rows))]
    return trimmed_mean(torch.stack([rows[some].mean(0) for some in near]))


# --- byzfl -----------------------------------------------------------------------------------------------------------
def byzfl_ways(count: int) -> dict[str, Way]:
    """The rules that byzfl has, set up for `count` updates. Empty where it is not installed."""
    if not _byzfl_is_there():
        return {}
    from byzfl.aggregators import aggregators, preaggregators

    liars = byzantine_count(SHARE, count)
    mixing, trimming = preaggregators.NNM(f=liars), aggregators.TrMean(f=liars)
    ways: dict[str, Way] = {
        "mean": aggregators.Average(),
        "median": aggregators.Median(),
        "trimmed_mean": trimming,
        "krum": aggregators.Krum(f=liars),
        "multi_krum": aggregators.MultiKrum(f=liars),
        "geometric_median": aggregators.GeometricMedian(T=GEOMETRIC_MEDIAN_STEPS),
        "centred_clipping": lambda rows: aggregators.CenteredClipping(L=CLIPPING_STEPS, tau=1.0)(rows),
    }
    if count * (count - liars) * SAMPLED * 4 <= BYZFL_ROOM_BYTES:
        ways["mixed_trimmed_mean"] = lambda rows: trimming(mixing(rows))
    return ways


@cache
def _byzfl_is_there() -> bool:
    """Whether byzfl's rules can be imported. Its package imports plotting libraries that they do without, so it gets an
    empty one in place of its own."""
    found = importlib.util.find_spec("byzfl")
    if found is None or not found.submodule_search_locations:
        return False
    package = ModuleType("byzfl")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["byzfl"] = package
    return True


# --- measuring -------------------------------------------------------------------------------------------------------
# By the figures' name: the settings of a run, and the plain way in torch.
WAYS: Mapping[str, tuple[Mapping[str, Any], Way]] = {
    "mean": ({"rule": "mean", "weighting": "uniform"}, mean),
    "median": ({"rule": "median"}, median),
    "trimmed_mean": ({"rule": "trimmed_mean"}, trimmed_mean),
    "krum": ({"rule": "krum"}, krum),
    "multi_krum": ({"rule": "multi_krum"}, multi_krum),
    "geometric_median": ({"rule": "geometric_median", "weighting": "uniform"}, geometric_median),
    "centred_clipping": (
        {"rule": "centred_clipping", "weighting": "uniform", "rule_parameters": {"radius": 1.0}},
        centred_clipping,
    ),
    "mixed_trimmed_mean": ({"rule": "trimmed_mean", "mix_share": SHARE}, mixed_trimmed_mean),
}


def figures() -> dict[str, float]:
    torch.set_num_threads(1)
    _say(f"CPU seconds are of {SAMPLED:,} parameters, extrapolated to {PARAMETERS:,}")
    if unmeasured := RULES.keys() - {str(settings["rule"]) for settings, _ in WAYS.values()}:
        _say(f"not measured: {', '.join(sorted(unmeasured))}")
    if not _byzfl_is_there():
        _say("byzfl is not installed: pip install --no-deps byzfl==0.0.11")
    found: dict[str, float] = {}
    for count in COUNTS:
        rows = (np.random.default_rng(count).standard_normal((count, SAMPLED)) * 1e-3).astype(np.float32)
        others = byzfl_ways(count)
        for name, (settings, plain) in WAYS.items():
            ours = _cpu_s(partial(_combining, settings), rows)
            found[f"{name}{count}_cpu_s"] = ours
            found[f"{name}{count}_vs_torch"] = _cpu_s(partial(_in_torch, plain), rows) / ours
            if name in others:
                found[f"{name}{count}_vs_byzfl"] = _cpu_s(partial(_in_torch, others[name]), rows) / ours
    return found


def _combining(settings: Mapping[str, Any], rows: np.ndarray) -> Callable[[], object]:
    """An aggregator's combining of these updates, which it has checked as they came."""
    run, schema = CombineSettings(**settings), layers(rows.shape[1])
    updates = []
    for index, row in enumerate(rows):
        update = update_of(f"node-{index:03}", row.data.cast("B"), 1)
        found = check_update(schema, run.update_coding, Bounds({}, norm=1e6), update)
        assert isinstance(found, Checked)
        updates.append(replace(update, checked=found))
    base = bytes(schema.model_bytes)
    return lambda: combine(base, schema, updates, run)


def _in_torch(way: Way, rows: np.ndarray) -> Callable[[], object]:
    return partial(way, torch.from_numpy(rows))


def _cpu_s(make: Callable[[np.ndarray], Callable[[], object]], rows: np.ndarray) -> float:
    """Of PARAMETERS parameters: a part that does not grow with them, and one that does."""
    few, many = (_best_cpu_s(make(np.ascontiguousarray(rows[:, :size]))) for size in (SAMPLED_FEW, SAMPLED))
    each = max(many - few, 0.0) / (SAMPLED - SAMPLED_FEW)
    return few + each * (PARAMETERS - SAMPLED_FEW)


def _best_cpu_s(work: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < PATIENCE_S:
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # the runner shows it beside the table


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:<36} {value:>10.4g}")
