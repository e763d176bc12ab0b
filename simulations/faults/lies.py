"""What lying participants send in place of what they learned, as vectors.

Decides what each lie is. Some liars lie alone, from their own difference; some collude: they know what every honest
participant sends, which is more than anybody knows in a real run, and send all the same.
"""

import numpy as np
import numpy.typing as npt

from aggregation.tensors.flat import F32

TRAINER_LIES = ("nan", "huge-norm", "sign-flip", "noise", "loud-noise", "scaled", "zeros")
COLLUDING_LIES = ("little-is-enough", "inner-product")

HUGE_FACTOR = 1e4  # a norm that no bound lets through
SCALED_FACTOR = 10.0
LOUDNESS = 10.0  # of loud noise, in sizes of the honest difference
LITTLE_DEVIATIONS = 1.5  # what the paper's experiments come to; its formula gives 0 for two of ten
INNER_PRODUCT_FACTOR = 0.5  # small enough to lie among the honest, large enough to turn rules that pick


def lied(values: F32, lie: str, random: np.random.Generator) -> F32:
    """A difference made false in one of TRAINER_LIES' ways."""
    match lie:
        case "nan":
            false = values.copy()
            false[:: max(1, len(values) // 8)] = np.nan
            return false
        case "huge-norm":
            return values * np.float32(HUGE_FACTOR)
        case "sign-flip":
            return values * np.float32(-1.0)
        case "scaled":
            return values * np.float32(SCALED_FACTOR)
        case "zeros":
            return np.zeros_like(values)
        case "noise" | "loud-noise":
            size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0
            factor = size * (LOUDNESS if lie == "loud-noise" else 1.0)
            return random.standard_normal(len(values), np.float32) * np.float32(factor)
        case _:
            raise ValueError(f"{lie!r} is no lie; there are {', '.join(TRAINER_LIES)}")


def colluded(honest: npt.NDArray[np.float64], lie: str) -> F32:
    """What all of a crowd of liars send, who know the honest differences, (participants, parameters).

    little-is-enough: the honest mean less some standard deviations in every coordinate (arXiv:1902.06156).
    inner-product: the opposite of the honest mean, small (arXiv:1903.03936)."""
    mean: npt.NDArray[np.float64] = honest.mean(axis=0)
    match lie:
        case "little-is-enough":
            deviation: npt.NDArray[np.float64] = honest.std(axis=0)
            return np.asarray(mean - LITTLE_DEVIATIONS * deviation, np.float32)
        case "inner-product":
            return np.asarray(-INNER_PRODUCT_FACTOR * mean, np.float32)
        case _:
            raise ValueError(f"{lie!r} is no lie; there are {', '.join(COLLUDING_LIES)}")
