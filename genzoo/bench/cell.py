"""One cell of a suite: train or resume, score, and draw its pictures."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from genzoo.bench.lines import Failure, FinishedCell, Score
from genzoo.bench.suites import Cell
from genzoo.changes import FREE, changed_settings
from genzoo.configure import section_classes
from genzoo.recipes import texts
from genzoo.registry import get_spec
from genzoo.settings import fields
from genzoo.spec import ArchConfig, RunConfig

if TYPE_CHECKING:
    from genzoo.budgets import Ask
    from genzoo.models.generative import Generative

CURVE_POINTS = 100
N_SAMPLES, N_PAIRS, N_WALKS, WALK = 32, 8, 3, 9  # images in the pictures of a report


def run_cell(
    cell: Cell, folder: Path, results: Path, threads: int, weights: Path | None = None
) -> list[Score | FinishedCell]:
    """Trains and scores a cell in its run folder.

    Args:
        cell: what to run.
        folder: of the run, resumed if it exists.
        results: the cell's pictures are written below it.
        threads: of torch, at most.
        weights: of the feature extractor, see `get_extractor`.

    Returns:
        the cell's lines for the results file.
    """
    import torch

    from genzoo.budgets import planned
    from genzoo.evaluation.evaluate import Job, result_line
    from genzoo.evaluation.protocols import get_protocol
    from genzoo.evaluation.subject import ModelSubject
    from genzoo.training.trainer import Trainer

    torch.set_num_threads(threads)
    start = time.monotonic()
    config = planned(_ask(cell, cell.budget), folder, start, progress=False).config if cell.budget else cell.config()
    trainer = Trainer(config, out=folder, progress=False, began=start)
    trainer.fit()
    scores, memo = [], {}
    for name in cell.metrics:
        protocol = get_protocol(name)
        subject = ModelSubject(str(folder), trainer.acc.device, raw=protocol.weights == "raw")
        line = result_line(Job(subject, protocol, config.data, weights=weights, progress=False, memo=memo))
        values = {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}
        scores.append(Score(**(values | _identity(cell))))
    log = trainer.folder.log.read()
    finished = FinishedCell(
        **_identity(cell),
        overrides=changed_settings(config),
        images_seen=trainer.progress.nimg,
        seconds=log[-1]["seconds"],
        budget=cell.budget,
        precision=trainer.config.train.precision,
        threads=used if isinstance(used := trainer.config.train.threads, int) else threads,
        seconds_in_all=round(time.monotonic() - start, 1),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        curves=_curves(log),
        guides=dict(trainer.objective.guides),
        pictures=_pictures(ModelSubject(str(folder), trainer.acc.device).model, folder, config, cell, results),
        fingerprint=fingerprint(cell),
    )
    return [*scores, finished]


def _ask(cell: Cell, budget: str) -> "Ask":
    """The cell as a run with a budget, whose plan replaces what its settings say of lengths.

    That is `train.duration` and `train.snapshot_every`; and of points, which have no recipe, all that counts images,
    epochs or steps, which becomes a share of the planned length.
    """
    from genzoo.budgets import LENGTH, Ask, is_points

    spec, lengths = get_spec(cell.model.partition(".")[0]), set(LENGTH)
    if is_points(cell.config()):
        lengths |= {
            f"{section}.{name}"
            for section, cls in section_classes(spec).items()
            for name, kind, *_ in fields(cls)
            if "duration" in kind
        } - {"train.budget"}
    counted = [text for text in cell.settings if text.partition("=")[0] in lengths and "%" not in text]
    chosen = tuple(text for text in cell.settings if text not in counted)
    return Ask(budget, lambda weaker: cell.config([*counted, *weaker, *chosen]), chosen)


def standing_config(cell: Cell) -> RunConfig:
    """Returns the cell's configuration without what is measured where it runs."""
    if cell.budget is None:
        return cell.config()
    from genzoo.budgets import standing_lines

    wanted = _ask(cell, cell.budget)
    return wanted.resolve(texts(standing_lines(wanted)))


def failure(cell: Cell, reason: str) -> Failure:
    return Failure(**_identity(cell), reason=reason)


def _identity(cell: Cell) -> dict[str, Any]:
    """The fields that all lines about a cell have."""
    return {
        "suite": cell.suite,
        "cell": cell.name,
        "label": cell.label,
        "data": cell.data,
        "seed": cell.seed,
        "model": cell.model,
    }


def fingerprint(cell: Cell) -> str:
    """Hashes everything that decides the cell's numbers: model, dataset, protocols, and all settings but defaults.

    The place of the data does not count, nor do settings that a resumed run may change, nor how a step is run, so that
    a suite may be finished on a GPU. Because defaults are left out, a setting that is added to genzoo later leaves the
    fingerprints of old results as they are.
    """
    config = standing_config(cell)
    decides: dict[str, Any] = {"model": config.model, "data": cell.data, "metrics": cell.metrics}
    shared = {name: default for name, _, default, _ in fields(ArchConfig)}
    for section, cls in section_classes(get_spec(config.model.partition(".")[0])).items():
        for name, _, default, _ in fields(cls):
            default = shared.get(name, default) if section == "arch" else default
            key, value = f"{section}.{name}", getattr(getattr(config, section), name)
            if value != default and key not in FREE | {"data.name", "train.compile"}:
                decides[key] = value
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Takes at most CURVE_POINTS of the log's lines, evenly spaced; six digits are more than a picture shows."""
    lines = [line for line in log if any(name.startswith("loss/") for name in line)]
    lines = lines[:: math.ceil(len(lines) / CURVE_POINTS)] if lines else []
    names = sorted({name for line in lines for name in line if "/" in name and not name.startswith("gradient/")})
    curves = {name: [float(f"{line[name]:.6g}") if name in line else None for line in lines] for name in names}
    return {"nimg": [line["nimg"] for line in lines], **curves}


def _pictures(model: "Generative", folder: Path, config: RunConfig, cell: Cell, results: Path) -> dict[str, str]:
    """Writes the cell's pictures below results/<suite>/; returns their paths by what they show."""
    import torch

    from genzoo.data import heldout_split, open_dataset
    from genzoo.data.batches import to_float
    from genzoo.data.sets import FiniteSet
    from genzoo.fitted import knows
    from genzoo.models.autoencoder import can_encode
    from genzoo.noise import generator
    from genzoo.pictures import save_grid

    (results / cell.suite).mkdir(parents=True, exist_ok=True)
    written = {}

    def path(what: str) -> Path:
        written[what] = f"{cell.suite}/{cell.name}.{what}.png"
        return results / written[what]

    if not model.is_image:
        copyfile(folder / "preview.png", path("points"))
        return written
    labels = model.classes_in_turn(N_SAMPLES)
    priors = {"samples": model.prior.kind} | ({"samples-fitted": model.prior_name()} if model.fitted_prior else {})
    for what, prior in priors.items():
        given = labels if prior == model.prior.kind or knows(model.fitted_prior, len(model.classes)) else None
        samples = model.sample(N_SAMPLES, generator(0, "report samples"), given, prior)
        save_grid(samples.split(N_PAIRS), path(what))
    if not can_encode(model):
        return written
    dataset = open_dataset(config.data, split=heldout_split(config.data), progress=False)
    assert isinstance(dataset, FiniteSet)
    order = torch.randperm(dataset.size, generator=generator(0, "report"))  # the same for every row
    real = to_float(dataset.batch(order[: max(N_PAIRS, 2 * N_WALKS)].numpy()), model.device)
    save_grid([real[:N_PAIRS], model.reconstruct(real[:N_PAIRS])], path("reconstructions"))
    save_grid(list(model.interpolate(real[:N_WALKS], real[N_WALKS : 2 * N_WALKS], WALK)), path("interpolation"))
    return written
