"""What is written from time to time: checkpoint, pictures, curves, a score, and the model in the form that is shared."""

import math
import shutil
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genzoo.data import heldout_split, open_dataset
from genzoo.duration import in_images
from genzoo.metrics.sliced import sliced_wasserstein
from genzoo.metrics.vitals import matrix_sizes, vitals
from genzoo.models.card import run_card
from genzoo.noise import generator
from genzoo.resolve import build
from genzoo.training.checkpoint import replacing
from genzoo.training.loader import as_real
from genzoo.training.pictures import save_curves, save_grid, save_points

if TYPE_CHECKING:
    from genzoo.training.trainer import Trainer

N_SHOWN = 8  # images a row
N_SCORED = (32, 256, 2048)  # items on each side of the score: at least, at most for images, for points
SCORED_VALUES = 2**22  # pixel values that the score may decode, so that large images are not scored longer than they are trained
CHUNK = 32  # images decoded at once
N_VITALS = 64  # items whose vitals are measured: thirteen passes of so many, forward only, at each snapshot


def n_scored(shape: tuple[int, ...]) -> int:
    """How many samples, and as many real items, the score compares."""
    fewest, most, points = N_SCORED
    return points if len(shape) == 1 else min(most, max(fewest, SCORED_VALUES // math.prod(shape)))


class Snapshots:
    """Decides when a run is saved and shown, and does it; pictures use fixed images and latents, so that progress can be watched."""

    def __init__(self, trainer: "Trainer"):
        self.t = trainer
        self.best = math.inf  # lowest score so far
        c = trainer.config.train
        every = in_images(c.snapshot_every, batch=c.batch, epoch=trainer.dataset.size, total=trainer.total_nimg)
        self.every_steps = max(1, round(every / c.batch))
        self._fixed: dict[str, Tensor] = {}
        self._sizes: dict[str, float] = {}

    def start(self) -> None:
        self._began = self._last = time.monotonic()
        self._wait = 60.0  # the first look comes after a minute, then the pauses double up to snapshot_minutes
        lines = self.t.folder.log.read()
        self._before = lines[-1]["seconds"] if lines else 0.0

    def seconds(self) -> float:
        """Seconds of training, over all restarts."""
        return self._before + time.monotonic() - self._began

    def planned(self) -> bool:
        return self.t.step % self.every_steps == 0

    def due(self) -> bool:
        return self.planned() or time.monotonic() - self._last > min(self._wait, 60 * self.t.config.train.snapshot_minutes)

    def take(self) -> None:
        """Saves and shows the run as it stands. All processes call it; the first one writes."""
        if self.t.acc.is_main_process:
            model = self.t.ema.module if self.t.ema is not None else self.t.model
            training = model.training
            model.eval()  # pictures come from the model as people will load it
            try:
                score = self._score(model)
                self._vitals = self._measure(model, score)
                improved = score < self.best
                self.best = min(score, self.best)
                self._show(model, score)
                self._export(model, score, improved)
                self.t.checkpoints.save(self.t.step, self.t.saved.state())  # last: what is cut short is done again on resume
            finally:
                model.train(training)
        self.t.acc.wait_for_everyone()
        self._wait *= 2
        self._last = time.monotonic()

    @torch.no_grad()
    def _score(self, model: torch.nn.Module) -> float:
        real = self._fixed_data("real")
        z = self._fixed_data("z")
        samples = torch.cat([model.decode(part).sample for part in z.split(CHUNK if model.is_image else len(z))])
        return sliced_wasserstein(real, samples.clamp(0, 1) if model.is_image else samples)

    def _measure(self, model: torch.nn.Module, score: float) -> dict[str, float]:
        """The vitals of the shown model, and, where it is an average of weights, how its score compares with the raw weights'."""
        seen = self._fixed_data("seen") if "seen" in self._fixed else None
        values = vitals(model, self._fixed_data("real")[:N_VITALS], self._fixed_data("z")[:N_VITALS], seen)
        if model is not self.t.model:
            self.t.model.eval()
            values["average"] = score / max(self._score(self.t.model), 1e-12)
            self.t.model.train()
        values["growth"] = max(size / self._first_sizes()[name] for name, size in matrix_sizes(self.t.model).items())
        return {f"vitals/{name}": value for name, value in values.items()}

    def _first_sizes(self) -> dict[str, float]:
        """The size of each network's weights before the first step."""
        if not self._sizes:
            torch.manual_seed(self.t.config.train.seed)  # every step seeds anew
            self._sizes = matrix_sizes(build(self.t.config, self.t.dataset.shape))
        return self._sizes

    def _show(self, model: torch.nn.Module, score: float) -> None:
        folder, nimg = self.t.folder, self.t.progress.nimg
        place = {"step": self.t.step, "nimg": nimg, "seconds": round(self.seconds(), 2)}
        line = place | {"score/sliced_wasserstein": score} | self._vitals
        folder.log.append(line)
        self.t.watch.observe(line)
        real, z = self._fixed_data("real"), self._fixed_data("z")
        path = folder.path / "previews" / f"{nimg:010d}.png"
        with torch.no_grad():
            if model.is_image:
                shown = real[:N_SHOWN]
                samples = model.decode(z[: 2 * N_SHOWN]).sample
                save_grid([shown, model.reconstruct(shown), *samples.split(N_SHOWN)], path)
            elif model.shape == (2,):
                save_points(model, real, model.decode(z).sample, path, extent=1.3 * real.abs().max().item())
        if path.exists():
            shutil.copyfile(path, folder.path / "preview.png")
        save_curves(folder.log.read(), self.t.objective.guides, folder.path / "curves.png", self.t.watch.marks())

    def _export(self, model: torch.nn.Module, score: float, improved: bool) -> None:
        """Writes `model/`, and `best/` when the score has improved: folders that `genzoo.load` reads and that can be shared."""
        preview, averaged = self.t.folder.path / "preview.png", self.t.ema is not None
        told = {"nimg": self.t.progress.nimg, "score": score, "n": n_scored(self.t.dataset.shape)}
        card = run_card(self.t.config, model, **told, averaged=averaged, pictured=preview.exists())
        for name in ("model", "best") if improved else ("model",):
            with replacing(self.t.folder.path / name) as temporary:
                model.save_pretrained(temporary, card=card)
                if preview.exists():
                    shutil.copyfile(preview, temporary / "preview.png")

    @torch.no_grad()
    def _fixed_data(self, name: str) -> Tensor:
        """Held-out real data where the source has any (else training data) and prior latents, the same for the whole run."""
        if name not in self._fixed:
            t, seed = self.t, self.t.config.train.seed
            device = t.acc.device
            n = n_scored(t.dataset.shape)
            if t.dataset.size is None:
                real = t.dataset.draw(n, generator(seed, "fixed"))
            else:
                split = heldout_split(t.config.data)
                source = open_dataset(t.config.data, split=split, progress=False) if split else t.dataset
                n = min(n, source.size)
                real = source.batch(torch.randperm(source.size, generator=generator(seed, "fixed"))[:n].numpy())
                if split:
                    seen = torch.randperm(t.dataset.size, generator=generator(seed, "fixed seen"))[:N_VITALS]
                    self._fixed["seen"] = as_real(t.dataset.batch(seen.numpy()), device)
            z = torch.randn(n, t.config.arch.z_dim, generator=generator(seed, "fixed latents"))
            self._fixed |= {"real": as_real(real, device), "z": z.to(device)}
        return self._fixed[name]
