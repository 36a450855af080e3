"""A snapshot of a run: measured, shown, and exported in the form that is shared."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from genzoo.data import Dataset
from genzoo.files import replacing
from genzoo.fitted import Flow
from genzoo.models.autoencoder import Autoencoder
from genzoo.models.generative import Generative
from genzoo.models.sealing import is_intact
from genzoo.objective import Objective
from genzoo.pictures import save_curves, save_grid, save_points, save_quality
from genzoo.runs.card import run_card
from genzoo.runs.curves import Curves
from genzoo.runs.data import shared_record
from genzoo.runs.folder import RunFolder
from genzoo.runs.names import MODEL
from genzoo.runs.recalibration import recalibrated
from genzoo.runs.scores import PREFIX, REFINED
from genzoo.spec import RunConfig
from genzoo.training.evaluators import Evaluator, Fixed, Weights, decoded, fixed_items, latents_of, score_name
from genzoo.training.evaluators import score as score_of
from genzoo.training.fitting import PriorFit
from genzoo.training.monitor import Watch

N_SHOWN = 8  # images per row
FIRST_SCORE = "score/sliced_wasserstein"  # of every run before scores had names in the checkpoint


class Snapshots:
    """Takes snapshots; pictures use fixed items and latents, so that progress can be watched. For one process.

    Args:
        config: the run.
        dataset: what it trains on.
        heldout: the split that snapshots show and score; None = training data.
        folder: where everything is written.
        objective: its guides are drawn in the curves.
        watch: sees every measured line.
        evaluators: what is measured; one of them yields the score, by `score_name`.
        prior: fits the prior of the shown weights, if any, before they are measured.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        heldout: str | None,
        folder: RunFolder,
        objective: Objective,
        watch: Watch,
        evaluators: Sequence[Evaluator],
        prior: PriorFit,
    ):
        self._config, self._dataset, self._heldout, self._folder = config, dataset, heldout, folder
        self._objective, self._watch, self._evaluators, self._prior = objective, watch, evaluators, prior
        self._preview = folder.path / "preview.png"
        self._score = score_name(dataset.shape)
        self.best = math.inf  # lowest score so far
        self.due: tuple[int, int] | None = None  # while the last snapshot is taken: `RunFolder.lengths` before it
        self._last: tuple[int, int] | None = None  # the same once it was taken
        self._fixed: Fixed | None = None
        self._curves = Curves(folder.log)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "score": self._score, "due": self.due, "last": self._last}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """A best value of another score, of a run that an earlier version began, cannot be compared and is dropped."""
        self.best = state_dict["best"] if state_dict.get("score", FIRST_SCORE) == self._score else math.inf
        self.due, self._last = ((at[0], at[1]) if (at := state_dict.get(key)) else None for key in ("due", "last"))

    def is_complete(self) -> bool:
        """Whether the last snapshot was taken, and what it exported is there."""
        return self.due is None and is_intact(self._folder.path / MODEL)

    def lengths(self, finished: bool) -> tuple[int, int] | None:
        """`RunFolder.lengths` to go back to if the snapshot of a finished run is to be taken again; else None."""
        return self.due or (self._last if finished and not self.is_complete() else None)

    def prepare(self, model: Generative) -> None:
        """Decodes what is shown and scored, which the first snapshot would do."""
        if self._fixed is None:
            self._fixed = fixed_items(self._config, self._dataset, self._heldout, model)

    def take(
        self,
        weights: Weights,
        position: Callable[[], Mapping[str, Any]],
        last: bool,
        save: Callable[[], None],
        planned: bool = True,
    ) -> bool:
        """Measures, shows and exports the run as it stands; saves it afterwards, and before the last snapshot, which
        may take minutes.

        Args:
            weights: of the run.
            position: returns step, images seen and seconds, for the log.
            last: whether the run ends here.
            save: writes a checkpoint.
            planned: whether the run's length decides that a snapshot is taken here; where the clock or an interruption
                does, `best/` stays as it is, so that it does not depend on them.

        Returns:
            whether Ctrl-C cut the last snapshot short. It is taken again when the run is resumed.
        """
        if last:
            self.due = self._last = self._folder.lengths()
            save()
        try:
            with evaluated(weights), self._recalibrated(weights):
                self._take(weights, position, last, planned)
        except KeyboardInterrupt:
            if not last:
                raise
            return True
        self.due = None
        save()  # what is cut short is repeated on resume
        return False

    @contextmanager
    def _recalibrated(self, weights: Weights) -> Iterator[None]:
        """Both sets of weights with the statistics that `train.recalibrate` asks for."""
        c = self._config
        with ExitStack() as stack:
            if c.train.recalibrate:
                for model in {id(model): model for model in (weights.shown, weights.raw)}.values():
                    stack.enter_context(recalibrated(model, self._dataset, c.data.labels, c.train.seed))
            yield

    def _take(self, weights: Weights, position: Callable[[], Mapping[str, Any]], last: bool, planned: bool) -> None:
        self._prior(weights.shown, last)
        self.prepare(weights.shown)
        assert self._fixed is not None
        values = {name: value for evaluate in self._evaluators for name, value in evaluate(weights, self._fixed)}
        here, score = position(), values[self._score]
        line = {**here, "prior": weights.shown.prior_name(), **values}
        self._folder.log.append(line)
        self._watch.observe(line)
        improved = planned and score < self.best
        self.best = score if improved else self.best  # of mixtures: only the last one is refined
        stopped = None
        try:
            if last and self._prior.refine(weights.shown):
                score = self._choose(weights.shown, score, position)
        except KeyboardInterrupt as pressed:  # what is exported has the mixture, until the run is resumed
            stopped = pressed
        self._show(weights.shown, self._fixed, here["nimg"])
        self._export(weights.shown, here["nimg"], score, improved)
        if stopped is not None:
            raise stopped

    def _choose(self, model: Generative, before: float, position: Callable[[], Mapping[str, Any]]) -> float:
        """Keeps a refined prior if its samples have a better score than those of its mixture, `before`; returns the
        score of the prior that is kept.
        """
        flow, fixed = model.fitted_prior, self._fixed
        assert isinstance(flow, Flow) and fixed is not None
        after = score_of(model, latents_of(model, fixed), fixed)
        kept = after < before
        if not kept:
            model.fitted_prior = flow.base
        here = position()
        self._folder.log.append({**here, "prior": flow.name, self._score.replace(PREFIX, REFINED): after})
        text = f"samples from {flow.name} score {after:.4g}, from {flow.base.name} {before:.4g}: {{}} is kept"
        self._watch.report({**here, "kind": "prior", "text": text.format(model.prior_name())})
        return after if kept else before

    def _show(self, model: Generative, fixed: Fixed, nimg: int) -> None:
        path = self._folder.path / "previews" / f"{nimg:010d}.png"
        save_preview(model, fixed, path)
        if path.exists():
            shutil.copyfile(path, self._preview)
        curves = self._folder.path / "curves.png"
        lines = self._curves.lines()
        save_curves(lines, self._objective.guides, curves, self._watch.marks())
        save_quality(lines, self._folder.path / "quality.png")

    def _export(self, model: Generative, nimg: int, score: float, improved: bool) -> None:
        """Writes `model/`, and `best/` when a planned snapshot has the best score so far: folders for `genzoo.load`."""
        pictured, averaged = self._preview.exists(), self._config.train.ema > 0
        assert self._fixed is not None
        n, heldout = len(self._fixed.real), self._heldout
        card = run_card(
            self._config, model, nimg=nimg, score=score, n=n, heldout=heldout, averaged=averaged, pictured=pictured
        )
        model.register_to_config(data=shared_record(self._config.data, self._folder.data))
        for name in (MODEL, "best") if improved else (MODEL,):
            with replacing(self._folder.path / name) as temporary:
                model.save_pretrained(temporary, card=card)
                if pictured:
                    shutil.copyfile(self._preview, temporary / "preview.png")


@contextmanager
def evaluated(weights: Weights) -> Iterator[None]:
    """Both sets of weights in eval mode: pictures come from the model as people will load it."""
    modes = [(net, net.training) for net in (weights.shown, weights.raw)]
    try:
        for net, _ in modes:
            net.eval()
        yield
    finally:
        for net, training in modes:
            net.train(training)


@torch.no_grad()
def save_preview(model: Generative, fixed: Fixed, path: Path) -> None:
    """Writes a picture: rows of real images, reconstructions (if the model encodes) and samples; or 2-D points."""
    real = fixed.real.x
    if model.is_image:
        shown, samples = real[:N_SHOWN], decoded(model, latents_of(model, fixed), fixed, 2 * N_SHOWN)
        labels = fixed.real.labels[:N_SHOWN] if model.conditional and fixed.real.labels is not None else None
        again = [model.reconstruct(shown, labels)] if isinstance(model, Autoencoder) else []
        save_grid([shown, *again, *samples.split(N_SHOWN)], path)
    elif model.shape == (2,):
        energy = model.energy if isinstance(model, Autoencoder) and model.has_energy else None
        save_points(real, decoded(model, latents_of(model, fixed), fixed), path, 1.3 * real.abs().max().item(), energy)
