"""Models, presets and runs as frozen dataclasses, typed by their annotations and checked by pydantic.

No torch here, so that `genzoo list` and every `--help` are fast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from genzoo.archspec import ArchConfig
from genzoo.dataspec import DataConfig, Decay, Rate, config
from genzoo.duration import MOST, Duration, TimeSpan, is_share

if TYPE_CHECKING:
    from genzoo.models.generative import Generative
    from genzoo.objective import Objective, Spaces


def _length(text: str) -> str:
    if is_share(text):
        raise ValueError("the length of a run is no share (%) of it: write images (2M), epochs (3ep) or steps (2000it)")
    if not text.strip("0_.kKMGepit"):
        raise ValueError("a run without an image trains nothing: write images (2M), epochs (3ep) or steps (2000it)")
    return text


def _device(value: Any) -> Any:
    if value not in ("auto", "cpu"):
        raise ValueError(
            "auto takes the GPU where there is one, and cpu does not; to choose one of several, start with "
            "CUDA_VISIBLE_DEVICES=1"
        )
    return value


@config
class TrainConfig:
    """The run: how long, how fast, how precise, what is kept."""

    duration: Annotated[
        Duration, AfterValidator(_length), Field(description="images (50k, 2M), epochs (3ep) or steps (2000it)")
    ] = "1M"
    batch: Annotated[
        int, Field(gt=0, le=2**20, description="images per optimizer step, over all processes and micro-batches")
    ] = 32
    accumulate: Annotated[
        int, Field(gt=0, le=2**20, description="micro-batches a step is split into, to save memory")
    ] = 1
    checkpointing: Annotated[
        bool,
        Field(description="conv networks compute activations again in backward: less memory, more time, same weights"),
    ] = False
    optimizer: Annotated[str, Field(description="adam, or any timm optimizer by name")] = "adam"
    lr: Annotated[float, Field(gt=0, description="learning rate of every network")] = 2e-4
    lr_of: Annotated[dict[str, Rate], Field(description="learning rate of one network: train.lr_of.decoder=1e-4")] = (
        field(default_factory=dict)
    )
    betas: Annotated[tuple[Decay, Decay], Field(description="moment decays, of Adam only")] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0, description="weight decay of the optimizer")] = 0.0
    momentum: Annotated[
        float | None,
        Field(ge=0, lt=1, description="momentum of sgd, rmsprop, ...; none: 0 for these two, else the optimizer's own"),
    ] = None
    lr_schedule: Annotated[
        Literal["steps", "constant", "cosine", "linear", "exponential"],
        Field(
            description="steps: multiplied by lr_factor at each of lr_drops; the last three fall to lr_end at the end"
        ),
    ] = "steps"
    lr_drops: Annotated[
        tuple[Duration, ...], Field(description="steps: points of the run at which the rate is multiplied by lr_factor")
    ] = ()
    lr_factor: Annotated[float, Field(gt=0, le=1, description="steps: factor of each drop")] = 0.1
    lr_from: Annotated[Duration, Field(description="cosine, linear, exponential: where the decay starts")] = "0"
    lr_end: Annotated[float, Field(ge=0, le=1, description="cosine, linear, ...: last rate over the first one")] = 0.0
    clip: Annotated[float | None, Field(gt=0, description="largest gradient norm of a network; none = any")] = None
    ema: Annotated[float, Field(ge=0, lt=1, description="decay per step of the averaged weights; 0 = none")] = 0.999
    budget: Annotated[
        TimeSpan | None, Field(description="wall clock that the run is planned for; set by genzoo train --budget")
    ] = None
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "auto"],
        Field(
            description="tf32 rounds products on NVIDIA GPUs; bf16 runs the networks under autocast, losses stay fp32; "
            "auto: fp32 or bf16, the faster here, by timing a few steps"
        ),
    ] = "fp32"
    threads: Annotated[
        Annotated[int, Field(gt=0, le=4096)] | Literal["auto"] | None,
        Field(description="CPU threads of one process; none = PyTorch's default; auto: the fastest here, by timing"),
    ] = None
    compile: Annotated[
        bool | Literal["cudagraphs", "auto"],
        Field(
            description="trace the whole step and compile it: for multi-layer perceptrons, and for GPUs; cudagraphs: "
            "record its kernels instead and launch them together, on GPUs; one process; auto: the fastest, by timing"
        ),
    ] = False
    device: Annotated[
        Literal["auto", "cpu"], BeforeValidator(_device), Field(description="auto takes the GPU when there is one")
    ] = "auto"
    seed: Annotated[
        int, Field(ge=0, le=2**63 - 1, description="seed of weights, data order, augmentation and noise")
    ] = 0
    log_every: Annotated[int, Field(gt=0, le=MOST, description="steps between log lines")] = 10
    snapshot_every: Annotated[
        Duration, Field(description="pictures, curves, score and checkpoint: a share (5%) or a duration")
    ] = "5%"
    snapshot_minutes: Annotated[float, Field(gt=0, description="at least one snapshot in so many minutes")] = 10
    keep: Annotated[
        int,
        Field(gt=0, le=10**6, description="newest checkpoints kept; best/ keeps the weights of the lowest score"),
    ] = 2
    recover: Annotated[
        int,
        Field(ge=0, le=3, description="fixes tried for a broken step: 1 redraw, 2 halve the rate, 3 clip; 0: stop"),
    ] = 3
    recalibrate: Annotated[
        bool,
        Field(
            description="BatchNorm of saved weights takes statistics of real items and their latents, recomputed at "
            "snapshots; false: running averages of training, with generated items among them"
        ),
    ] = False
    prior: Annotated[
        str,
        Field(
            pattern=r"^(auto|normal|uniform|sphere|classes|mog|(gmm|flow)(:[1-9][0-9]{0,8})?)$",
            description="what samples come from: gmm, a mixture of Gaussians fitted to encodings at snapshots (gmm:K: "
            "of K); flow, the last mixture refined by a flow, if that scores better (flow:N: trained for N steps); "
            "normal, classes or mog: the model's own prior; auto: flow for images, if the encoder takes no labels; "
            "gmm in short runs",
        ),
    ] = "auto"
    measure: Annotated[tuple[str, ...], Field(description="extractors whose Fréchet distance snapshots measure")] = ()
    trackers: Annotated[tuple[str, ...], Field(description="tensorboard, wandb, ... (any of Accelerate's)")] = ()
    workers: Annotated[
        int | None,
        Field(
            ge=0, le=1024, description="loader processes; none = as many as pay, or the data in the GPU where they fit"
        ),
    ] = None


@plain_dataclass(frozen=True, kw_only=True)
class Preset:
    """One row: only what differs from the model's defaults, and where it comes from."""

    data: Mapping[str, Any]
    arch: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    source: str  # paper, table and equation; or "ours"
    expected: str = "not found"  # published score with its protocol
    deviations: str = "none known"


@plain_dataclass(frozen=True, kw_only=True)
class PublishedProtocol:
    """How a paper's code computes a score where that differs from genzoo; an ending of a protocol's name selects it."""

    word: str  # what the names of the protocols begin with that may have the ending: `fid`
    extractor: str  # see genzoo.evaluation.extractors
    extractor_mode: Literal["eval", "train"] = "eval"
    batchnorm: Literal["ema", "batch", "recalibrate"] = "ema"  # of the model
    raw: bool = False  # a run's trained weights instead of their average
    batch: int | None = None  # set: images come in batches of train.batch, or of this size if the model has no run
    truncated: bool = False  # samples are truncated to 8 bits, without rounding
    shuffled: bool = False  # real images in random order, which counts in train mode
    note: str  # a sentence for reports: what differs, and what the score can be compared with


@plain_dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One plugin: what the registry needs to know about a model before it is used."""

    name: str
    summary: str
    paper: str
    config: type  # the objective's configuration class
    presets: Mapping[str, Preset]
    default_preset: str  # what the bare model name and no `--res` mean
    model: Callable[[], type["Generative"]]  # imported on first use
    objective: Callable[[Any, "Spaces"], "Objective"]  # (its config, shapes and prior)
    arch: type[ArchConfig] = ArchConfig  # the class of its network settings, with its own defaults and rules
    memory_savers: tuple[str, ...] = ()  # options of the objective that save memory, e.g. `objective.recompute`
    warmup: Callable[[Any], str] = lambda config: "0"  # its config -> Duration before adversarial training starts
    protocols: Mapping[str, PublishedProtocol] = field(default_factory=dict)  # by ending: `sintrovae2021`
    # For `genzoo suggest`: (variance, in SSE, of the finest detail to learn; data shape) -> {option: (text, reason)}
    suggested: Callable[[float, tuple[int, ...]], Mapping[str, tuple[str, str]]] = lambda detail, shape: {}
    # For `--budget`, on images: (data shape) -> {option of the objective: (text, reason)}
    recipe: Callable[[tuple[int, ...]], Mapping[str, tuple[str, str]]] = lambda shape: {}


@plain_dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run; resolved once, saved before the first step, compared on resume."""

    model: str  # `introvae.celebahq256`
    arch: ArchConfig
    objective: Any  # the model's own configuration class
    data: DataConfig
    train: TrainConfig
    notes: tuple[str, ...] = ()  # what resolution decided and a reader should know
