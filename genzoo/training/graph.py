"""`train.compile`: the passes of a whole step as compiled graphs, cut where the optimisers move the weights.

The objective stays as it is. A step is traced through its generator and through autograd, without moving anything, and the trace is cut at
every optimiser step; each segment then becomes one compiled graph. `backward(inputs=...)` has by then left out every gradient that nobody asked for,
which no compiled network can do for itself, and the optimisers stay what they are, with their learning rates.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.utils import _pytree as pytree

from genzoo.duration import Duration
from genzoo.errors import UsageError
from genzoo.objective import Progress

Phase = tuple[tuple[str, ...], dict[str, Tensor]]  # the networks that move, and the scalars to log

aten = torch.ops.aten
# The form of BatchNorm that says that it writes its running averages; the other one's writing is lost in a graph.
DECOMPOSITIONS = {aten.native_batch_norm.default: aten._native_batch_norm_legit.default}

COMPILER = partial(torch.compile, fullgraph=True, dynamic=False)


class _Watched:
    """A step's progress that remembers what was asked of it: the trace holds as long as the answers do."""

    def __init__(self, at: Progress):
        self._at, self.answers = at, dict[Duration, bool]()

    def before(self, duration: Duration) -> bool:
        self.answers[duration] = self._at.before(duration)
        return self.answers[duration]

    def __getattr__(self, name: str) -> Any:
        raise UsageError(f"This objective reads at.{name}, which differs at every step: leave train.compile=false.")


@dataclass
class _Cut:
    """Where the trace stood when an optimiser was about to step."""

    traced: frozenset[str]  # names of all nodes so far
    trains: tuple[str, ...]
    grads: tuple[str, ...]  # parameters that have a gradient
    scalars: tuple[str, ...]


@dataclass
class _Segment:
    """Everything between two optimiser steps; values go by their names in the trace."""

    run: Callable[..., Sequence[Tensor]]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    trains: tuple[str, ...]
    grads: dict[str, str]  # of a parameter, by its name
    scalars: dict[str, str]


class CompiledStep:
    """Runs `gradients` compiled, and `move` after each phase as it is.

    Args:
        model: holds the networks by name; parameters and buffers are read and written in place.
        gradients: (micro-batches, progress) -> the phases, one by one, each with its gradients in `.grad`; it is resumed after the move.
        move: lets the optimisers of some networks step, and returns more scalars.
        compiler: makes a graph fast.

    Raises:
        UsageError: there is no C++ compiler, or the objective reads what a trace cannot hold.
    """

    def __init__(
        self,
        model: nn.Module,
        gradients: Callable[[Sequence[Any], Any], Iterator[Phase]],
        move: Callable[[tuple[str, ...]], dict[str, Tensor]],
        compiler: Callable[[fx.GraphModule], Callable[..., Sequence[Tensor]]] = COMPILER,
    ):
        self.params, self.buffers = dict(model.named_parameters()), dict(model.named_buffers())
        if next(model.parameters()).device.type == "cpu" and shutil.which("g++") is None:
            raise UsageError("train.compile=true needs a C++ compiler on a CPU: install g++, or leave train.compile=false.")
        self.gradients, self.move, self.compiler = gradients, move, compiler
        self._segments: list[_Segment] = []
        self._answers: dict[Duration, bool] = {}
        self._shapes: list[torch.Size] = []

    def __call__(self, batches: Sequence[Any], at: Progress) -> list[Phase]:
        """One step; traced anew when the objective would take another turn than in the trace."""
        leaves, tree = pytree.tree_flatten(batches)
        holds = all(at.before(duration) == answer for duration, answer in self._answers.items())
        if not (self._segments and holds and [leaf.shape for leaf in leaves] == self._shapes):
            self._trace(leaves, tree, at)
        env = self._inputs(leaves)
        phases = []
        for segment in self._segments:
            with torch.no_grad():  # the backward passes are in the graph
                env |= zip(segment.gives, segment.run(*(env[name] for name in segment.takes)), strict=True)
            for name, grad in segment.grads.items():
                self.params[name].grad = env[grad]
            scalars = {name: env[value] for name, value in segment.scalars.items()}
            phases.append((segment.trains, scalars | self.move(segment.trains)))
        return phases

    def _inputs(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        """The values that a trace starts from, by the names that make_fx gives them."""
        return {f"arg{i}_1": value for i, value in enumerate([*leaves, *self.params.values(), *self.buffers.values()])}

    def _trace(self, leaves: Sequence[Tensor], tree: pytree.TreeSpec, at: Progress) -> None:
        """Keeps the graph of a step; weights, running averages and the random state stay as they were."""
        watched, cuts = _Watched(at), list[_Cut]()

        def step(*inputs: Tensor) -> list[Tensor]:
            results = []
            for trains, scalars in self.gradients(pytree.tree_unflatten(list(inputs[: len(leaves)]), tree), watched):
                grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
                results += [*grads.values(), *scalars.values()]
                names = frozenset(node.name for node in get_proxy_mode().tracer.graph.nodes)
                cuts.append(_Cut(names, trains, tuple(grads), tuple(scalars)))
                for name in grads:
                    self.params[name].grad = None
            return results

        inputs, kept = self._inputs(leaves), [buffer.clone() for buffer in self.buffers.values()]
        # cuDNN's BatchNorm is another operator, which hides what it writes
        with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=False):
            traced = make_fx(step, decomposition_table=DECOMPOSITIONS)(*inputs.values())
        for buffer, before in zip(self.buffers.values(), kept, strict=True):
            buffer.copy_(before)
        assert [node.name for node in traced.graph.find_nodes(op="placeholder")] == list(inputs)
        self._segments = _segments(traced, cuts, self.compiler)
        self._answers, self._shapes = watched.answers, [leaf.shape for leaf in leaves]


def _segments(traced: fx.GraphModule, cuts: Sequence[_Cut], compiler: Callable[[fx.GraphModule], Any]) -> list[_Segment]:
    """Compiles the nodes between two cuts into one function each, which gives what later ones and the optimisers need."""
    *nodes, output = traced.graph.nodes
    results = iter(output.args[0])
    segments, done = [], frozenset(node.name for node in nodes if node.op == "placeholder")
    for cut in cuts:
        own = [node for node in nodes if node.name in cut.traced - done]
        takes = list(dict.fromkeys(arg for node in own for arg in node.all_input_nodes if arg not in own))
        gives = [node for node in own if any(user not in own for user in node.users)]
        segments.append(
            _Segment(
                run=compiler(_function(traced, own, takes, gives)),
                takes=tuple(node.name for node in takes),
                gives=tuple(node.name for node in gives),
                trains=cut.trains,
                grads={name: next(results).name for name in cut.grads},
                scalars={name: next(results).name for name in cut.scalars},
            )
        )
        done |= cut.traced
    return segments


def _function(root: nn.Module, nodes: Sequence[fx.Node], takes: Sequence[fx.Node], gives: Sequence[fx.Node]) -> fx.GraphModule:
    """Some nodes of a trace as a module: takes -> tuple of gives."""
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in takes:
        copies[node] = graph.placeholder(node.name)
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in gives))
    return fx.GraphModule(root, graph)
