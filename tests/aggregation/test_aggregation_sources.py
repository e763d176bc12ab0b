"""Where bytes come from: several buffers as one, and the tensors of a module without copying them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aggregation.tensors.schema import Schema, TensorSpec
from aggregation.tensors.sources import FileSink, PartsSource
from aggregation.tensors.torch_arrays import load_raw, module_parts, module_schema


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(0, 40), st.integers(0, 40))
def test_parts_are_read_as_if_they_were_joined(parts: list[bytes], offset: int, length: int) -> None:
    whole, source = b"".join(parts), PartsSource(parts)
    assert source.size == len(whole)
    offset = min(offset, len(whole))
    length = min(length, len(whole) - offset)
    assert source.view(offset, length, memoryview(bytearray(40))) == whole[offset : offset + length]


def test_what_lies_in_one_part_is_not_copied() -> None:
    part, scratch = np.arange(100, dtype=np.uint8), memoryview(bytearray(100))
    view = PartsSource([b"before", part]).view(16, 20, scratch)
    part[10] = 255
    assert view[0] == 255
    assert bytes(scratch) == bytes(100)


def test_a_raw_model_in_parts_is_of_the_arrays_memory() -> None:
    specs = [TensorSpec("a", "float32", (2, 3), "averaged"), TensorSpec("n", "int64", (), "counter")]
    schema = Schema.of(specs)
    arrays = {"a": np.ones((3, 2), np.float32).T, "n": np.array(7)}  # the first is not contiguous: it is copied
    parts = schema.parts_of(arrays)
    assert b"".join(parts) == schema.raw_of(arrays)
    arrays["n"][...] = 8
    assert bytes(parts[1]) == (8).to_bytes(8, "little")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(3, 5)
        self.low = torch.nn.Parameter(torch.randn(4, dtype=torch.bfloat16))
        self.turned = torch.nn.Parameter(torch.randn(4, 3).t())
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("nothing", torch.zeros(0, 2))


def test_a_module_is_filled_in_place_and_read_without_copying() -> None:
    one, other = Model(), Model()
    schema = module_schema(one)
    raw = b"".join(module_parts(one, schema))
    assert b"".join(module_parts(one, schema)) == raw
    weight = other.wide.weight
    load_raw(other, schema, memoryview(b"x" + raw)[1:])  # not aligned, and not to be written to
    assert b"".join(module_parts(other, schema)) == raw
    assert other.wide.weight is weight
    assert torch.equal(other.turned, one.turned)
    assert other.turned.stride() == (1, 3)
    source = PartsSource(module_parts(one, schema))
    with torch.no_grad():
        one.wide.weight.fill_(5)
    scratch = memoryview(bytearray(source.size))
    assert bytes(source.view(0, source.size, scratch)) == b"".join(module_parts(one, schema))


def test_a_file_that_is_there_is_not_written_over(tmp_path) -> None:
    (tmp_path / "there").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        FileSink(tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"mine"
