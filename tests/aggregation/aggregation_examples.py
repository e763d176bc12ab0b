"""Rounds of random updates, for the tests of combining."""

import numpy as np

from aggregation.codecs.registry import codec_named
from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.updates import Update, encode_update, update_of

Named = dict[str, np.ndarray]


def random_model(random: np.random.Generator, schema: Schema, scale: float = 1.0) -> bytes:
    """Random values for every tensor; bfloat16 from the upper half of a float32."""
    arrays: Named = {}
    for spec in schema.tensors:
        values = random.standard_normal(spec.shape) * scale
        if spec.dtype == "bfloat16":
            arrays[spec.name] = np.asarray(np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2")
        elif spec.dtype.startswith("float"):
            arrays[spec.name] = np.asarray(values).astype(spec.numpy_dtype)
        else:
            arrays[spec.name] = random.integers(0, 2, spec.shape).astype(spec.numpy_dtype)
    return schema.raw_of(arrays)


def make_round(
    schema: Schema, count: int, *, codec: str = "fp32", seed: int = 1, scale: float = 0.01
) -> tuple[bytes, list[Update]]:
    random = np.random.default_rng(seed)
    base = random_model(random, schema)
    updates = []
    for index in range(count):
        moved = schema.views(bytearray(base))
        for spec in (*schema.averaged, *schema.counters):
            if spec.kind == "counter":
                moved[spec.name] = (moved[spec.name] + random.integers(0, 3)).astype(spec.numpy_dtype)
            elif spec.dtype != "bfloat16":
                step = random.standard_normal(spec.shape) * scale
                moved[spec.name] = np.asarray(moved[spec.name] + step).astype(spec.numpy_dtype)
        blob = encode_update(schema, base, schema.raw_of(moved), codec_named(codec))
        updates.append(update_of(f"node-{index:02}", blob, int(random.integers(1, 500))))
    return base, updates


SCHEMA = Schema.of(
    [
        TensorSpec("embed", "float32", (300, 7), "averaged"),
        TensorSpec("scale", "float64", (), "averaged"),
        TensorSpec("half", "float16", (5, 2), "averaged"),
        TensorSpec("brain", "bfloat16", (9,), "averaged"),
        TensorSpec("none", "float32", (0,), "averaged"),
        TensorSpec("seen", "int64", (), "counter"),
        TensorSpec("ids", "int32", (4,), "counter"),
        TensorSpec("mask", "bool", (3,), "frozen"),
        TensorSpec("table", "float32", (2, 2), "frozen"),
        TensorSpec("mine", "float32", (4,), "local"),
    ]
)
