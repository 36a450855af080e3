"""What snapshots measure besides their score: Fréchet distances on features of an extractor, see `train.measure`."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.evaluation.extractors import Precision, get_extractor
from genzoo.evaluation.features import dataset_features
from genzoo.metrics.frechet import frechet_distance, statistics
from genzoo.models.generative import Generative
from genzoo.noise import generator
from genzoo.runs.scores import DISTANCE
from genzoo.spec import RunConfig
from genzoo.training.evaluators import CHUNK, Fixed, Weights

N_MEASURED = 2048  # images on each side, at most


class FeatureDistance:
    """Evaluator: yields the Fréchet distance between real images and samples of the weights that are saved.

    So few images bias it upwards (Bińkowski et al. 2018, "Demystifying MMD GANs", Section 4), in every snapshot alike:
    it shows progress, and compares with no published score.

    Every process makes one, as they share the work on the real images; the first one calls it.

    Args:
        name: as `genzoo.evaluation.extractors.get_extractor` takes it; a missing classifier is trained now.
        config: the run.
        split: the split that real images come from.
        device: on which features are computed.
        progress: show bars.

    Raises:
        UsageError: the extractor is unknown or cannot be had, or the data are not images.
    """

    def __init__(self, name: str, config: RunConfig, split: str, device: torch.device, progress: bool) -> None:
        dataset = open_dataset(config.data, split, progress)
        if not dataset.is_image or dataset.size is None:
            raise UsageError(f"train.measure={name} is for images, and {dataset.name} has none: leave it out.")
        self._n, self._seed, self._name = min(N_MEASURED, dataset.size), config.train.seed, f"{DISTANCE}{name}"
        self._extractor = extractor = get_extractor(name, data=config.data, device=device, progress=progress)
        self._precision: Precision = extractor.best_precision("eval")
        self._identity = extractor.identity("eval", self._precision)
        real = dataset_features(
            extractor, config.data, split, self._n, precision=self._precision, progress=progress
        ).values
        self._real = statistics(real, self._identity)

    def __call__(self, weights: Weights, fixed: Fixed) -> Iterator[tuple[str, float]]:
        found = statistics(self._features(weights.shown), self._identity)
        with warnings.catch_warnings(action="ignore"):  # of fewer images than twice the features
            yield self._name, frechet_distance(self._real, found)

    def _features(self, model: Generative) -> Iterator[Tensor]:
        rng = generator(self._seed, "measured samples")
        for start in range(0, self._n, CHUNK):
            n = min(CHUNK, self._n - start)
            samples = model.sample(n, rng, model.classes_in_turn(n, start)).nan_to_num()
            yield self._extractor(samples, precision=self._precision)


def distances(config: RunConfig, split: str | None, device: torch.device, progress: bool) -> list[FeatureDistance]:
    """Makes what `train.measure` names.

    Args:
        config: the run.
        split: see `FeatureDistance`; None where the run trains on data that its configuration does not name.
        device: see there.
        progress: show bars.

    Raises:
        UsageError: see there; or there is nothing to compare with.
    """
    names = config.train.measure
    if not names:
        return []
    if split is None:
        raise UsageError("train.measure compares with the data that the configuration names: leave out `dataset`.")
    return [FeatureDistance(name, config, split, device, progress) for name in names]
