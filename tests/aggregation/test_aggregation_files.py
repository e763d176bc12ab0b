"""safetensors files: read by the reference library, and read back with every byte of the header suspected."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregation.tensors.safetensors_file import from_safetensors, safetensors_pieces, safetensors_size
from aggregation.tensors.schema import ELEMENT_TYPES, Schema, TensorSpec
from protocol.errors import FednodeError

SCHEMA = Schema.of(
    [
        TensorSpec("layer.weight", "float32", (2, 3), "averaged"),
        TensorSpec("half", "float16", (3,), "averaged"),
        TensorSpec("brain", "bfloat16", (2,), "averaged"),
        TensorSpec("seen", "int64", (), "counter"),
        TensorSpec("mask", "bool", (3,), "frozen"),
        TensorSpec("mine", "float32", (4,), "local"),
    ]
)
RAW = (
    np.arange(6, dtype="<f4").tobytes()
    + np.array([0.5, -1, 2], "<f2").tobytes()
    + np.array([0x3F80, 0xC000], "<u2").tobytes()
    + np.int64(41).tobytes()
    + b"\1\0\1"
)


def file_of(schema: Schema, model: bytes | Path, **metadata: str) -> bytes:
    pieces = safetensors_pieces(schema, model, metadata)
    data = b"".join(bytes(piece) for piece in pieces)  # a piece is good until the next is asked for
    assert len(data) == safetensors_size(schema, metadata)
    return data


def test_the_reference_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    (tmp_path / "raw").write_bytes(RAW)
    path.write_bytes(file_of(SCHEMA, tmp_path / "raw", run="ünï\n"))
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"run": "ünï\n", "fednode_schema_id": SCHEMA.schema_id}
    tensors = safetensors.torch.load_file(path)
    assert set(tensors) == {"layer.weight", "half", "brain", "seen", "mask"}
    assert tensors["layer.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["brain"].dtype == torch.bfloat16
    assert tensors["brain"].tolist() == [1.0, -2.0]
    assert tensors["seen"].item() == 41
    assert tensors["mask"].tolist() == [True, False, True]


def test_what_the_reference_library_writes_is_read(tmp_path: Path) -> None:
    tensors = safetensors.torch.load(file_of(SCHEMA, RAW))
    safetensors.torch.save_file({**tensors, "mine": torch.ones(4)}, tmp_path / "theirs")
    assert from_safetensors(SCHEMA, tmp_path / "theirs") == RAW


def test_the_order_of_tensors_is_the_reference_librarys() -> None:
    arrays = {f"t-{dtype}": np.zeros(3, dtype) for dtype in ELEMENT_TYPES if dtype != "bfloat16"}
    arrays |= {f"a-{dtype}": np.zeros(3, dtype) for dtype in ("float32", "int8")}
    schema = Schema.of_arrays(arrays)
    metadata = {"fednode_schema_id": schema.schema_id}
    assert file_of(schema, schema.raw_of(arrays)) == safetensors.numpy.save(arrays, metadata)


@settings(max_examples=50)
@given(st.data())
def test_any_model_survives_the_file(data: st.DataObject) -> None:
    specs = []
    for index in range(data.draw(st.integers(0, 6))):
        dtype = data.draw(st.sampled_from(sorted(ELEMENT_TYPES)))
        shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
        specs.append(TensorSpec(f'"{index}\\ä', dtype, shape, data.draw(st.sampled_from(ELEMENT_TYPES[dtype].kinds))))
    schema = Schema.of(specs)
    raw = bytes(index % 2 for index in range(schema.model_bytes))
    file = file_of(schema, raw)
    assert from_safetensors(schema, file) == raw
    stored = {name for name, _ in safetensors.deserialize(file)}
    assert stored == {spec.name for spec in specs if spec.kind != "local"}


def _file(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE = Schema.of_arrays({"w": np.zeros(2, np.float32)})


def _entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", "too short"),
        (b"\xff" * 8, "its header claims"),
        ((100).to_bytes(8, "little") + b"{}", "its header claims 100 bytes"),
        (_file(b"{", b""), "header is not sound"),
        (_file(b"[" * 100_000, b""), "header is not sound"),
        (_file(b'{"w": 1, "w": 2}', b""), "header is not sound"),
        (_file([], b""), "header is not a table"),
        (_file({}, b""), "'w' is missing"),
        (_file({"w": 5}, b""), "'w' is missing"),
        (_file({**_entry(), "x": 1}, bytes(8)), "'x', which the model has not"),
        (_file(_entry(dtype="F64"), bytes(16)), "'w' is F64"),
        (_file(_entry(shape=[1, 2]), bytes(8)), r"'w' is F32 \[1, 2\]"),
        (_file(_entry(offsets=[0, 7]), bytes(8)), "lies outside"),
        (_file(_entry(offsets=[-8, 0]), bytes(8)), "lies outside"),
        (_file(_entry(offsets=[4, 12]), bytes(8)), "lies outside"),
        (_file(_entry(offsets=["0", "8"]), bytes(8)), "lies outside"),
        (_file(_entry(offsets=None), bytes(8)), "lies outside"),
        (_file(_entry(), bytes(7)), "lies outside"),
    ],
)
def test_an_unsound_file_is_refused(file: bytes, complaint: str) -> None:
    with pytest.raises(FednodeError, match=complaint):
        from_safetensors(ONE, file)


def test_a_raw_model_of_another_length_is_not_written() -> None:
    with pytest.raises(FednodeError, match="its schema says"):
        file_of(SCHEMA, RAW + b"\0")
