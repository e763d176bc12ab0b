"""Torch modules as raw models and back."""

import numpy as np
import pytest
import torch
from torch import nn

from aggregation.codecs.registry import codec_named
from aggregation.combine import combine
from aggregation.settings import CombineSettings
from aggregation.tensors.schema import Schema
from aggregation.tensors.torch_arrays import load_raw, module_parts, module_schema
from aggregation.updates import encode_update, update_of
from protocol.errors import FednodeError


class Net(nn.Module):
    """A bit of everything: normalisation, tied weights, a fixed parameter, buffers of all sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embed.weight
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(7), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.embed(tokens)))

    def get_extra_state(self) -> str:
        return "no tensor"

    def set_extra_state(self, state: object) -> None:
        pass


def _kinds(schema: Schema) -> dict[str, str]:
    return {spec.name: spec.kind for spec in schema.tensors}


def test_what_takes_part_and_as_what() -> None:
    assert _kinds(module_schema(Net())) == {
        "embed.weight": "averaged",
        "norm.weight": "averaged",
        "norm.bias": "averaged",
        "norm.running_mean": "averaged",
        "norm.running_var": "averaged",
        "norm.num_batches_tracked": "counter",
        "fixed": "frozen",
        "mask": "frozen",
    }


def test_patterns_make_tensors_local_or_frozen() -> None:
    kinds = _kinds(module_schema(Net(), local=["norm.*"], frozen=["embed.weight"]))
    assert kinds["norm.weight"] == kinds["norm.num_batches_tracked"] == "local"
    assert kinds["embed.weight"] == "frozen"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_module_survives_its_raw_bytes(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    first, second = Net().to(dtype), Net().to(dtype)
    first.norm.num_batches_tracked += 3
    schema = module_schema(first)
    assert schema == module_schema(second)
    raw = b"".join(module_parts(first, schema))
    load_raw(second, schema, raw)
    assert b"".join(module_parts(second, schema)) == raw
    assert second.out.weight is second.embed.weight
    for name, value in first.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second.state_dict()[name]), name


def test_local_tensors_stay_what_they_are() -> None:
    torch.manual_seed(2)
    first, second = Net(), Net()
    with torch.no_grad():
        second.norm.bias.fill_(9)
    schema = module_schema(first, local=["norm.*"])
    load_raw(second, schema, b"".join(module_parts(first, schema)))
    assert second.norm.bias.tolist() == [9] * 4
    assert torch.equal(first.embed.weight, second.embed.weight)


def test_weights_tied_by_views_are_taken_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.arange(6.0).reshape(2, 3))
            self.b = nn.Parameter(self.a.data.view(2, 3))

    tied = Tied()
    schema = module_schema(tied)
    assert [spec.name for spec in schema.tensors] == ["a"]
    load_raw(tied, schema, np.full(6, 5, "<f4").tobytes())
    assert tied.b.flatten().tolist() == [5] * 6


def test_views_that_lie_askew_are_copied() -> None:
    linear = nn.Linear(3, 2, bias=False)
    linear.weight = nn.Parameter(torch.arange(6.0).reshape(3, 2).t())
    schema = module_schema(linear)
    raw = b"".join(module_parts(linear, schema))
    assert np.frombuffer(raw, "<f4").tolist() == [0, 2, 4, 1, 3, 5]
    load_raw(linear, schema, raw)
    assert linear.weight.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_a_tensor_that_no_schema_knows_is_named() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(FednodeError, match=r"'phase' is complex64.*persistent=False"):
        module_schema(module)
    with pytest.raises(FednodeError, match=r"'weight' is float32.*meta"):
        module_schema(nn.Linear(2, 2, device="meta"))


def test_another_module_is_refused_and_left_alone() -> None:
    schema = module_schema(nn.Linear(2, 2))
    raw = b"".join(module_parts(nn.Linear(2, 2), schema))
    other = nn.Linear(2, 2, bias=False)
    before = other.weight.tolist()
    with pytest.raises(FednodeError, match="does not have tensor 'bias'"):
        load_raw(other, schema, raw)
    with pytest.raises(FednodeError, match="does not have tensor 'weight' as float32"):
        load_raw(nn.Linear(2, 2).double(), schema, raw)
    with pytest.raises(FednodeError, match="its schema says"):
        load_raw(nn.Linear(2, 2), schema, raw[:-1])
    assert other.weight.tolist() == before
    with pytest.raises(FednodeError, match="'bias' is missing"):
        b"".join(module_parts(other, schema))


def test_two_participants_train_one_module() -> None:
    torch.manual_seed(3)
    base = Net()
    schema = module_schema(base)
    raw = b"".join(module_parts(base, schema))
    updates, embeddings = [], []
    for index in range(2):
        worker = Net()
        load_raw(worker, schema, raw)
        optimizer = torch.optim.SGD((p for p in worker.parameters() if p.requires_grad), lr=0.1)
        for _ in range(index + 1):
            loss = worker(torch.arange(5)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        blob = encode_update(schema, raw, b"".join(module_parts(worker, schema)), codec_named("fp32"))
        updates.append(update_of(f"node-{index}", blob, 10 * (index + 1)))
        embeddings.append(worker.embed.weight.detach())
    combined = combine(raw, schema, updates, CombineSettings())
    assert combined.refused == ()
    load_raw(base, schema, combined.model)
    assert base.norm.num_batches_tracked == 2  # the greatest of 1 and 2
    assert torch.allclose(base.embed.weight, (embeddings[0] + 2 * embeddings[1]) / 3, atol=1e-6)
