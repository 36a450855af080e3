"""`train.compile`: all passes of a step as compiled graphs, cut where the optimizers move the weights.

With `train.compile=cudagraphs` the same graphs run as they are, from recordings (`genzoo.training.capture`).

`CompiledPhases` takes the place of the eager phases behind the same call; without this file, only `train.compile` is
lost. The objective stays as it is: a step is traced through its generator and through autograd, without moving
anything, and the trace is cut at every optimizer step; each segment becomes one compiled graph. By then
`backward(inputs=...)` has left out every gradient that nobody asked for, which no compiled network can do by itself.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.utils import _pytree as pytree

from genzoo.controller import Controller
from genzoo.duration import Duration
from genzoo.errors import UsageError
from genzoo.objective import Phase, Progress
from genzoo.training.capture import Captured, Record

aten = torch.ops.aten
# The form of BatchNorm that declares that it writes its running averages; the other one's writes are lost in a graph.
DECOMPOSITIONS = {aten.native_batch_norm.default: aten._native_batch_norm_legit.default}

Compiler = Callable[[fx.GraphModule], Callable[..., Sequence[Tensor]]]
COMPILER = partial(torch.compile, fullgraph=True, dynamic=False)
Phases = Callable[[Sequence[Sequence[Any]], Any], Iterator[Phase]]
Question = tuple[str, Any]  # a method of Progress and its argument


class _Watched:
    """A step's progress that records what was asked of it: a trace is valid as long as the answers are the same."""

    def __init__(self, at: Progress):
        self._at, self.answers = at, dict[Question, bool]()
        self._share, self.reads_share = torch.empty(0), False  # stands in while a step is traced
        self.batch, self.parts = at.batch, at.parts  # constants of a run, as the next two
        self.total_nimg, self.epoch_nimg = at.total_nimg, at.epoch_nimg

    def before(self, duration: Duration) -> bool:
        return self._ask("before", duration)

    def every(self, n: int) -> bool:
        return self._ask("every", n)

    @property
    def share(self) -> Tensor:
        self.reads_share = True
        return self._share

    @share.setter
    def share(self, value: Tensor) -> None:
        self._share = value

    def _ask(self, method: str, argument: Any) -> bool:
        self.answers[method, argument] = getattr(self._at, method)(argument)
        return self.answers[method, argument]

    def __getattr__(self, name: str) -> Any:
        raise UsageError(f"This objective reads at.{name}, which differs at every step: leave train.compile=false.")


@dataclass
class _Cut:
    """Where the trace stood when an optimizer was about to step."""

    traced: frozenset[str]  # names of all nodes so far
    phase: Phase
    grads: tuple[str, ...]  # parameters that have a gradient


@dataclass
class _Segment:
    """Everything between two optimizer steps; values are named as in the trace."""

    run: Callable[..., Sequence[Tensor]]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    trains: tuple[str, ...]
    by: str
    when: str | None
    grads: dict[str, str]  # of a parameter, by its name
    logs: dict[str, str]


@dataclass
class _Trace:
    """A step that was traced once, and what it depends on."""

    answers: dict[Question, bool]
    reads_share: bool
    shapes: list[torch.Size]
    segments: list[_Segment]

    def holds(self, shapes: list[torch.Size], at: Progress) -> bool:
        same = all(getattr(at, method)(argument) == answer for (method, argument), answer in self.answers.items())
        return same and shapes == self.shapes


class CompiledPhases:
    """Yields the phases of a step, computed by compiled graphs.

    A step is traced again when the objective takes a branch that no trace has, e.g. after the warm-up. Settings that
    move are inputs of the trace, so that their values may change.

    Args:
        model: holds the networks by name; parameters and buffers are read and written in place.
        eager: (drawn batches, progress) -> the phases, one by one, each with its gradients in `.grad`.
        controllers: the settings of the objective that move, by name.
        compiler: makes a graph fast; None = it runs as it is.
        record: makes CUDA graphs of what the compiler gives; None = none.

    Raises:
        UsageError: there is no C++ compiler, or the objective reads what a trace cannot hold.
    """

    def __init__(
        self,
        model: nn.Module,
        eager: Phases,
        controllers: Mapping[str, Controller],
        compiler: Compiler | None = COMPILER,
        record: Record | None = None,
    ):
        if compiler is not None and next(model.parameters()).device.type == "cpu" and shutil.which("g++") is None:
            raise UsageError(
                "train.compile=true needs a C++ compiler on a CPU: install g++, or leave train.compile=false."
            )
        self._params, self._buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self._eager, self._compiler, self._record, self._controllers = eager, compiler, record, controllers
        self._settings = dict[str, tuple[float, Tensor]]()  # values that move, and the same on the device
        self.traces: list[_Trace] = []

    def __call__(self, batches: Sequence[Sequence[Any]], at: Progress) -> Iterator[Phase]:
        leaves, tree = _flattened(batches)
        if any(not isinstance(leaf, Tensor) for leaf in leaves):
            raise UsageError(
                "train.compile=true takes batches of tensors, and this objective draws others: leave it out."
            )
        shapes = [leaf.shape for leaf in leaves]
        trace = next((known for known in self.traces if known.holds(shapes, at)), None)
        if trace is None:
            self.traces.append(trace := self._trace(leaves, tree, at))
        values = self._inputs(leaves, at.share if trace.reads_share else 0.0)
        for segment in trace.segments:
            with torch.no_grad():  # the backward passes are in the graph
                results = segment.run(*(values[name] for name in segment.takes))
            values |= zip(segment.gives, results, strict=True)
            for name, grad in segment.grads.items():
                self._params[name].grad = values[grad]
            when = values[segment.when] if segment.when is not None else None
            logs = {name: values[log] for name, log in segment.logs.items()}
            if self._record is not None:  # the next step overwrites them
                logs = {name: log.clone() for name, log in logs.items()}
            yield Phase(segment.trains, segment.by, when, logs)

    def _inputs(self, leaves: Sequence[Tensor], share: float) -> dict[str, Tensor]:
        """The values that a trace starts from, by the names that make_fx gives them."""
        values = [*leaves, *self._params.values(), *self._buffers.values(), *self._moving(share)]
        return {f"arg{i}_1": value for i, value in enumerate(values)}

    def _moving(self, share: float) -> Iterator[Tensor]:
        """The share of the run that has passed and the values of the controllers as 0-d tensors, copied to the device
        only where they have changed.
        """
        weight = next(iter(self._params.values()))
        values = {"at.share": share} | {name: controller.value for name, controller in self._controllers.items()}
        for name, value in values.items():
            if name not in self._settings or self._settings[name][0] != value:
                self._settings[name] = value, weight.new_tensor(value)
            yield self._settings[name][1]

    @contextmanager
    def _standing_in(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Lets the objective read tensors of a trace for the values of its controllers."""
        kept = {name: controller.value for name, controller in self._controllers.items()}
        try:
            for controller, value in zip(self._controllers.values(), values, strict=True):
                controller.value = value  # pyright: ignore[reportAttributeAccessIssue]
            yield
        finally:
            for name, value in kept.items():
                self._controllers[name].value = value

    def _trace(self, leaves: Sequence[Tensor], tree: Callable[[Sequence[Tensor]], Any], at: Progress) -> _Trace:
        """Traces one step; weights, running averages and the random state stay as they were."""
        watched, cuts = _Watched(at), list[_Cut]()

        def step(*inputs: Tensor) -> list[Tensor]:
            results, batches = [], tree(inputs[: len(leaves)])
            watched.share, *moving = inputs[len(inputs) - 1 - len(self._controllers) :]
            with self._standing_in(moving):
                for phase in self._eager(batches, watched):
                    grads = {name: p.grad for name, p in self._params.items() if p.grad is not None}
                    results += [*grads.values(), *phase.logs.values(), *([] if phase.when is None else [phase.when])]
                    mode = get_proxy_mode()
                    assert mode is not None
                    names = frozenset(node.name for node in mode.tracer.graph.nodes)
                    cuts.append(_Cut(names, phase, tuple(grads)))
                    for name in grads:
                        self._params[name].grad = None
            return results

        inputs, kept = self._inputs(leaves, 0.0), [buffer.clone() for buffer in self._buffers.values()]
        # cuDNN's BatchNorm is another operator, which hides what it writes
        as_it_is = self._compiler is None  # writes that are hidden stay, as nothing rearranges the operations
        cudnn = torch.backends.cudnn.flags(enabled=as_it_is and torch.backends.cudnn.enabled)
        fake = FakeTensorMode(allow_fallback_kernels=True)  # without one of ours, make_fx makes one for each result
        with torch.random.fork_rng(), cudnn, tracing(TracingContext(fake)):
            traced = make_fx(step, decomposition_table={} if as_it_is else DECOMPOSITIONS)(*inputs.values())
        for buffer, before in zip(self._buffers.values(), kept, strict=True):
            buffer.copy_(before)
        assert [node.name for node in traced.graph.find_nodes(op="placeholder")] == list(inputs)
        # A view is right for the layout in memory that was traced, and the compiler may choose another.
        for node in traced.graph.find_nodes(op="call_function", target=aten.view.default):
            node.target = aten.reshape.default
        # BatchNorm's counters: what counts on later must be the buffer, not a result of this segment.
        for node in traced.graph.find_nodes(op="call_function", target=aten.add_.Tensor):
            node.replace_all_uses_with(node.args[0])
        segments = _segments(traced, cuts, self._compiler, self._record)
        return _Trace(watched.answers, watched.reads_share, [leaf.shape for leaf in leaves], segments)


def _segments(
    traced: fx.GraphModule, cuts: Sequence[_Cut], compiler: Compiler | None, record: Record | None
) -> list[_Segment]:
    """Compiles the nodes between two cuts into one function each, which returns what later ones and optimizers need."""
    *nodes, output = traced.graph.nodes
    results = iter(output.args[0])
    segments, done = [], frozenset(node.name for node in nodes if node.op == "placeholder")
    for cut in cuts:
        own = [node for node in nodes if node.name in cut.traced - done]
        takes = list(dict.fromkeys(arg for node in own for arg in node.all_input_nodes if arg not in own))
        gives = [node for node in own if any(user not in own for user in node.users)]
        run: Callable[..., Sequence[Tensor]] = _function(traced, own, takes, gives)
        run = run if compiler is None else compiler(run)
        segments.append(
            _Segment(
                run=run if record is None else Captured(run, 1 + len(segments), record),
                takes=tuple(node.name for node in takes),
                gives=tuple(node.name for node in gives),
                trains=cut.phase.trains,
                by=cut.phase.by,
                grads={name: next(results).name for name in cut.grads},
                logs={name: next(results).name for name in cut.phase.logs},
                when=None if cut.phase.when is None else next(results).name,
            )
        )
        done |= cut.traced
    return segments


def _function(
    root: nn.Module, nodes: Sequence[fx.Node], takes: Sequence[fx.Node], gives: Sequence[fx.Node]
) -> fx.GraphModule:
    """Some nodes of a trace as a module: takes -> tuple of gives."""
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in takes:
        copies[node] = graph.placeholder(node.name)
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in gives))
    return fx.GraphModule(root, graph)


def _flattened(batches: Any) -> tuple[list[Any], Callable[[Sequence[Tensor]], Any]]:
    """Returns what batches consist of, without what they leave out (None), and what puts them together again."""
    leaves, spec = pytree.tree_flatten(batches)
    present = [leaf is not None for leaf in leaves]

    def together(found: Sequence[Tensor]) -> Any:
        rest = iter(found)
        return pytree.tree_unflatten([next(rest) if there else None for there in present], spec)

    return [leaf for leaf in leaves if leaf is not None], together
