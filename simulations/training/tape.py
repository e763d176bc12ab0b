"""A computation on tensors as the list of plain operations that it came to, recorded once and played with other values.

Under vmap and autograd a small step spends half of its time on finding out which operations it consists of, and these
are the same at every step. Played, they give the same bits. What cannot be a list of operations is not recorded: those
that change a tensor in place, or that give anything but tensors, by which code could branch.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

Outputs = tuple[torch.Tensor | None, ...]
Tape = Callable[..., Outputs]  # of the inputs; it tracks no gradients

# What an operation takes beside tensors, and what can be written down. A generator, for one, cannot.
PLAIN = (int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))

ATEN = torch.ops.aten
IDLE_IN_ONE_SHAPE = (ATEN.view, ATEN._unsafe_view, ATEN.expand, ATEN.detach)  # a quarter of all that vmap makes


def record(work: Callable[[], Outputs], inputs: Sequence[torch.Tensor]) -> tuple[Outputs, Tape | None]:
    """What `work` gives, and how to get it from other `inputs` of the same shapes: None when that cannot be recorded.

    Tensors that `work` takes from elsewhere are part of the tape, by reference. Play it once beside `work` on other
    values before you rely on it: `work` may look at numbers in ways that leave no trace."""
    recorder = _Recorder(inputs)
    with recorder:
        outputs = work()
    return outputs, recorder.tape(outputs)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below vmap and autograd, forward and backward."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = fx.Graph()
        self._elsewhere = torch.nn.Module()
        self._complete = True
        self._alive: list[torch.Tensor] = []  # a tensor that is gone leaves its id to another
        self._nodes: dict[int, fx.Node] = {}
        for number, tensor in enumerate(inputs):
            self._name(tensor, self._graph.placeholder(f"input_{number}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import all of it first: 0.8 CPU seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        made = outputs if isinstance(outputs, tuple | list) else [outputs]
        if func._schema.is_mutable or not all(isinstance(tensor, torch.Tensor) for tensor in made):
            self._complete = False
        map_aggregate((args, kwargs or {}), self._check)
        if self._complete:
            node = self._graph.call_function(func, *map_aggregate((args, kwargs or {}), self._node))
            if made is outputs:
                for number, tensor in enumerate(made):
                    self._name(tensor, self._graph.call_function(operator.getitem, (node, number)))
            else:
                idle = func.overloadpacket in IDLE_IN_ONE_SHAPE and outputs.shape == args[0].shape
                self._name(outputs, self._node(args[0]) if idle else node)
        return outputs

    def _check(self, value: Any) -> None:
        if not isinstance(value, (torch.Tensor, *PLAIN)):
            self._complete = False

    def _name(self, tensor: torch.Tensor, node: fx.Node) -> None:
        self._alive.append(tensor)
        self._nodes[id(tensor)] = node

    def _node(self, value: Any) -> Any:
        """What stands for an argument in the list."""
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._nodes:
            name = f"elsewhere_{len(self._nodes)}"
            self._elsewhere.register_buffer(name, value.detach())
            self._name(value, self._graph.get_attr(name))
        return self._nodes[id(value)]

    def tape(self, outputs: Outputs) -> Tape | None:
        if not self._complete:
            return None
        self._graph.output(map_aggregate(outputs, self._node))
        self._graph.eliminate_dead_code()
        return torch.no_grad()(fx.GraphModule(self._elsewhere, self._graph).forward)
