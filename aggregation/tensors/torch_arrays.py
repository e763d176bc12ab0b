"""Between torch modules and raw models. The only file of this room that needs torch: worker processes import it.

Decides what of a module takes part: trained parameters and floating-point buffers are averaged, integer buffers are
counters, parameters that need no gradient and boolean buffers are frozen; buffers that `state_dict` leaves out, and
extra state that is no tensor, stay behind. A tensor that a module shows under several names (tied weights) is taken
once, under the first; loading it fills all of them.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aggregation.tensors.schema import ELEMENT_TYPES, Buffer, Schema, TensorSpec, kind_of
from protocol.errors import FednodeError

_TORCH_PREFIX = "torch."


def module_schema(module: torch.nn.Module, *, frozen: Collection[str] = (), local: Collection[str] = ()) -> Schema:
    """The schema of a module. `frozen` and `local` hold patterns of names, as of files, that overrule the dtype.

    Raises FednodeError that names a tensor whose dtype or layout no schema knows."""
    specs = []
    for name, tensor in _distinct_tensors(module):
        dtype = _dtype_name(name, tensor)
        kind = kind_of(name, dtype, frozen=frozen, local=local)
        if kind == "averaged" and isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:
            kind = "frozen"
        specs.append(TensorSpec(name, dtype, tuple(tensor.shape), kind))
    return Schema.of(specs)


def module_parts(module: torch.nn.Module, schema: Schema) -> list[memoryview]:
    """The module's values, which joined are a raw model, without copying what lies in this machine's memory: valid
    while the module is not changed. Raises FednodeError when the module is not of this schema."""
    local = {spec.name for spec in schema.tensors if spec.kind == "local"}
    tensors = _distinct_tensors(module)
    return schema.parts_of({name: _to_array(tensor) for name, tensor in tensors if name not in local})


def load_raw(module: torch.nn.Module, schema: Schema, raw: Buffer) -> None:
    """Put a raw model's values into the module, in place; what is local to it stays as it is.

    Raises FednodeError when the raw model or the module is not of this schema; nothing is changed then."""
    views = schema.views(raw)
    tensors = dict(_distinct_tensors(module))
    for spec in schema.tensors:
        tensor = tensors.get(spec.name)
        if tensor is None or _dtype_name(spec.name, tensor) != spec.dtype or tuple(tensor.shape) != spec.shape:
            raise FednodeError(
                f"The module does not have tensor {spec.name!r} as {spec.dtype} {list(spec.shape)}",
                remedy="make the module with the same task and parameters as the run's first model",
            )
    with torch.no_grad():
        for name, array in views.items():
            _fill(tensors[name], array)


def _distinct_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    seen: set[tuple[Any, ...]] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        place = _place(tensor)
        if place not in seen:
            seen.add(place)
            yield name, tensor


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that are one and the same memory, seen the same way."""
    if tensor.layout != torch.strided or tensor.numel() == 0 or tensor.device.type == "meta":
        return (id(tensor),)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _dtype_name(name: str, tensor: torch.Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix(_TORCH_PREFIX)
    if dtype not in ELEMENT_TYPES or tensor.layout != torch.strided or tensor.device.type == "meta":
        raise FednodeError(
            f"Tensor {name!r} is {dtype}, {tensor.layout} on {tensor.device.type}, which cannot be shared",
            remedy=f"use a dense tensor of one of {', '.join(ELEMENT_TYPES)}, or register_buffer(persistent=False)",
        )
    return dtype


def _to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    dense = tensor.detach().cpu().contiguous()
    if dense.dtype == torch.bfloat16:
        return dense.view(torch.int16).numpy().view(np.uint16)
    return dense.numpy()


def _fill(tensor: torch.Tensor, array: npt.NDArray[Any]) -> None:
    """Put `array` into `tensor`, in one pass where its memory is this machine's."""
    bits = tensor.detach().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.detach()
    values = array.view(np.int16) if tensor.dtype == torch.bfloat16 else array
    if bits.device.type == "cpu":
        np.copyto(bits.numpy(), values)
    else:  # torch wants writable, aligned memory, which a view of received bytes is not: one tensor at a time is copied
        bits.copy_(torch.from_numpy(values.copy()))
