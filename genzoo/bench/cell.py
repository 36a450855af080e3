"""One cell of a suite, from nothing to its result lines: train (or resume), score, draw."""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

from genzoo.bench.suites import Cell
from genzoo.registry import get_spec
from genzoo.resolve import FREE, changed_settings, section_classes
from genzoo.settings import fields
from genzoo.spec import RunConfig

CURVE_POINTS = 100
N_SAMPLES, N_PAIRS, N_WALKS, WALK = 32, 8, 3, 9  # images in the pictures of a report


def run_cell(cell: Cell, folder: Path, results: Path, threads: int, weights: Path | None = None) -> list[dict[str, Any]]:
    """Trains and scores a cell in its run folder; returns its lines for the results file, and writes its pictures below `results`."""
    import torch

    from genzoo.metrics.evaluate import Job, result_line
    from genzoo.metrics.protocols import get_protocol
    from genzoo.metrics.subject import open_subject
    from genzoo.training.trainer import Trainer

    torch.set_num_threads(threads)
    began = time.monotonic()
    config = cell.config()
    trainer = Trainer(config, out=folder, progress=False)
    trainer.fit()
    mark = {"suite": cell.suite, "cell": cell.name, "label": cell.label, "data": cell.data, "seed": cell.seed}
    lines, memo = [], {}
    for name in cell.metrics:
        protocol = get_protocol(name)
        subject = open_subject(str(folder), trainer.acc.device, raw=protocol.weights == "raw")
        lines.append(result_line(Job(subject, protocol, config.data, weights=weights, progress=False, memo=memo)) | mark)
    log = trainer.folder.log.read()
    whole = {
        "kind": "cell",
        **mark,
        "model": config.model,
        "overrides": changed_settings(config),
        "images_seen": trainer.progress.nimg,
        "seconds": log[-1]["seconds"],
        "seconds_in_all": round(time.monotonic() - began, 1),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "curves": _curves(log),
        "guides": dict(trainer.objective.guides),
        "pictures": _pictures(open_subject(str(folder), trainer.acc.device).model, folder, config, cell, results),
        "fingerprint": fingerprint(cell),
    }
    return [*lines, whole]


def fingerprint(cell: Cell) -> str:
    """Changes with anything that decides the cell's numbers: model, data by its name, protocols, and every setting that is not its default.

    Where the data lies decides nothing, nor do settings that a resumed run may change; and a setting that genzoo learns later, left at its
    default, makes no old result another cell's.
    """
    config = cell.config()
    decides: dict[str, Any] = {"model": config.model, "data": cell.data, "metrics": cell.metrics}
    for section, cls in section_classes(get_spec(config.model.partition(".")[0])).items():
        for name, _, default, _ in fields(cls):
            key, value = f"{section}.{name}", getattr(getattr(config, section), name)
            if value != default and key not in FREE | {"data.name"}:
                decides[key] = value
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """At most CURVE_POINTS of the log's lines, evenly spaced; six digits are more than a picture shows."""
    lines = [line for line in log if any(name.startswith("loss/") for name in line)]
    lines = lines[:: math.ceil(len(lines) / CURVE_POINTS)] if lines else []
    names = sorted({name for line in lines for name in line if "/" in name and not name.startswith("gradient/")})
    curves = {name: [float(f"{line[name]:.6g}") if name in line else None for line in lines] for name in names}
    return {"nimg": [line["nimg"] for line in lines], **curves}


def _pictures(model: Any, folder: Path, config: RunConfig, cell: Cell, results: Path) -> dict[str, str]:
    """Writes the cell's pictures below results/<suite>/; returns what -> path."""
    import torch

    from genzoo.data import heldout_split, open_dataset
    from genzoo.noise import generator
    from genzoo.training.loader import as_real
    from genzoo.training.pictures import save_grid

    (results / cell.suite).mkdir(parents=True, exist_ok=True)

    def path(what: str) -> Path:
        return results / cell.suite / f"{cell.name}.{what}.png"

    if not model.is_image:
        copyfile(folder / "preview.png", path("points"))
        return {"points": f"{cell.suite}/{path('points').name}"}
    dataset = open_dataset(config.data, split=heldout_split(config.data), progress=False)
    chosen = torch.randperm(dataset.size, generator=generator(0, "report"))[: max(N_PAIRS, 2 * N_WALKS)]  # the same for every row
    real = as_real(dataset.batch(chosen.numpy()), model.device)
    save_grid(model.sample(N_SAMPLES, generator=generator(0, "report samples")).split(N_PAIRS), path("samples"))
    save_grid([real[:N_PAIRS], model.reconstruct(real[:N_PAIRS])], path("reconstructions"))
    save_grid(list(model.interpolate(real[:N_WALKS], real[N_WALKS : 2 * N_WALKS], WALK)), path("interpolation"))
    return {what: f"{cell.suite}/{path(what).name}" for what in ("samples", "reconstructions", "interpolation")}
