"""The prior that a run fits at its snapshots, to encodings of its training data."""

from collections.abc import Callable

from genzoo.data import Dataset
from genzoo.errors import UsageError
from genzoo.mixture import components_of, is_fitted
from genzoo.models.generative import Generative
from genzoo.runs.prior import fit_from
from genzoo.spec import RunConfig

AT_SNAPSHOTS = (1000, 2000)  # encodings, at least and at most: encoding them costs less than the pictures
SHARE = 10  # at the end, one image in so many that were trained on is encoded, but no fewer than at snapshots
MOST = 50_000  # and no more: they support 200 components in place of 50


class PriorFit:
    """Fits the prior that `train.prior` asks for, a function of weights, data and seed.

    Args:
        config: of the run.
        dataset: what it trains on.
        model: what it trains.
        images: between snapshots, and in the run.
        report: prints one line.

    Raises:
        UsageError: another model's own prior is asked for, or a fitted one that cannot be fitted.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        model: Generative,
        images: tuple[int, int],
        report: Callable[[str], None],
    ) -> None:
        self._asked, self._dataset, self._seed, self._report = config.train.prior, dataset, config.train.seed, report
        fewest, most = AT_SNAPSHOTS
        interval, total = images
        self._n = min(most, max(fewest, interval)), min(MOST, max(most, total // SHARE))
        self._refuse_misfits(model)

    def _refuse_misfits(self, model: Generative) -> None:
        own, asked = model.prior.kind, self._asked
        if is_fitted(asked) and model.unfittable:
            raise UsageError(
                f"train.prior={asked}: no prior can be fitted to {type(model).__name__}, as {model.unfittable}: "
                f"leave it, or write {own}."
            )
        k, most = components_of(asked) if is_fitted(asked) else None, self._of(self._n[0])
        if k is not None and k > most:
            raise UsageError(
                f"train.prior={asked} has more components than the {most:,} encodings of a snapshot: take fewer."
            )
        if not is_fitted(asked) and asked not in ("auto", own):
            raise UsageError(f"train.prior={asked}: the prior of {type(model).__name__} is {own}: take {own} or gmm.")

    def __call__(self, model: Generative, last: bool) -> None:
        """Sets `model.fitted_prior`; None where the model's own prior is asked for, or no mixture can be fitted yet."""
        model.fitted_prior = None
        fitted = is_fitted(self._asked) or (self._asked == "auto" and model.is_image and not model.unfittable)
        if not fitted:  # published measures of points sample the model's own prior
            return
        components = components_of(self._asked) if is_fitted(self._asked) else None
        try:
            fit_from(model, self._dataset, components, self._n[last], self._seed)
        except UsageError as error:
            self._report(f"warning: samples of this snapshot are drawn from {model.prior.kind}. {error}")

    def _of(self, n: int) -> int:
        return n if self._dataset.size is None else min(n, self._dataset.size)
