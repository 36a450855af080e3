"""The prior that a run fits at its snapshots, to encodings of its training data."""

from collections.abc import Callable

from torch import Tensor

from genzoo.data import Dataset
from genzoo.errors import UsageError
from genzoo.fitted import Mixture, fit_flow, fit_mixture, parse
from genzoo.fitted.flow import STEPS
from genzoo.models.generative import Generative
from genzoo.runs.prior import encodings_of
from genzoo.spec import RunConfig

AT_SNAPSHOTS = (1000, 2000)  # encodings, at least and at most: encoding them costs less than the pictures
SHARE = 10  # at the end, one image in so many that were trained on is encoded, but no fewer than at snapshots
MOST = 50_000  # and no more: they support 200 components in place of 50
FLOW_SHARE = 3  # a flow is trained for one step in so many of the run, each of which takes far longer
FLOW_STEPS = (100, 5000)  # at least, or no flow is trained, and at most
LONG = FLOW_SHARE * FLOW_STEPS[1]  # steps of a run with a flow


def flow_steps(asked: str, total_steps: int) -> int:
    """How many steps the flow of a run is trained for at its end, by `train.prior`; 0: there is none."""
    if asked == "auto":
        least, most = FLOW_STEPS
        return min(most, steps) if (steps := total_steps // FLOW_SHARE) >= least else 0
    found = parse(asked)
    return (found.number or STEPS) if found is not None and found.kind == "flow" else 0


class PriorFit:
    """Fits the prior that `train.prior` asks for: a mixture at every snapshot, a function of weights, data and seed,
    and at the end the flow that refines it, a function of precision and device as well.

    `interrupted` says whether to stop training a flow.

    Args:
        config: of the run.
        dataset: what it trains on.
        model: what it trains.
        images: between snapshots, and in the run.
        steps: in the run.
        report: prints one line.
        progress: show a bar while a flow is trained.

    Raises:
        UsageError: another model's own prior is asked for, or a fitted one that cannot be fitted.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        model: Generative,
        images: tuple[int, int],
        steps: int,
        report: Callable[[str], None],
        progress: bool = False,
    ) -> None:
        c = config.train
        self._asked, self._dataset, self._seed, self._report = c.prior, dataset, c.seed, report
        self._labels = config.data.labels
        self._named, self._precision, self._steps = parse(c.prior), c.precision, steps
        fewest, most = AT_SNAPSHOTS
        interval, total = images
        self._n = min(most, max(fewest, interval)), min(MOST, max(most, total // SHARE))
        self._progress = progress
        self._encodings: Tensor | None = None  # of the last fit, where a flow may follow
        self.interrupted: Callable[[], bool] = lambda: False
        self._refuse_misfits(model)

    def _refuse_misfits(self, model: Generative) -> None:
        own, asked = model.prior.kind, self._asked
        if self._named and model.unfittable:
            raise UsageError(
                f"train.prior={asked}: no prior can be fitted to {type(model).__name__}, as {model.unfittable}: "
                f"leave it, or write {own}."
            )
        k, most = self._components or 0, self._of(self._n[0])
        if k > most:
            raise UsageError(
                f"train.prior={asked} has more components than the {most:,} encodings of a snapshot: take fewer."
            )
        if not self._named and asked not in ("auto", own):
            others = "" if model.unfittable else ", gmm or flow"
            raise UsageError(f"train.prior={asked}: the prior of {type(model).__name__} is {own}: take {own}{others}.")

    @property
    def _components(self) -> int | None:
        return self._named.number if self._named and self._named.kind == "gmm" else None

    def __call__(self, model: Generative, last: bool) -> None:
        """Sets `model.fitted_prior` to a mixture; to None where the model's own prior is asked for, or no mixture can
        be fitted yet.
        """
        model.fitted_prior = None
        fitted = self._named or (self._asked == "auto" and model.is_image and not model.unfittable)
        if not fitted:  # published measures of points sample the model's own prior
            return
        try:
            encodings, classes = encodings_of(model, self._dataset, self._n[last], self._seed, self._labels)
            model.fitted_prior = fit_mixture(encodings, self._components, self._seed, model.device, classes)
            self._encodings = encodings if flow_steps(self._asked, LONG) else None
        except UsageError as error:
            self._report(f"warning: samples of this snapshot are drawn from {model.prior.kind}. {error}")

    def refine(self, model: Generative, steps: int | None = None) -> bool:
        """Lets a flow refine the mixture that was just fitted; returns whether it did.

        Args:
            model: that was fitted.
            steps: of training, instead of the run's.

        Raises:
            KeyboardInterrupt: it was interrupted; the mixture stays.
        """
        base, wanted = model.fitted_prior, flow_steps(self._asked, self._steps) if steps is None else steps
        encodings, self._encodings = self._encodings, None if steps is None else self._encodings
        if not wanted or encodings is None or not isinstance(base, Mixture):
            return False
        precision, shown = str(self._precision), self._progress and steps is None
        try:
            model.fitted_prior = fit_flow(
                encodings, base, wanted, self._seed, precision, model.device, shown, self.interrupted
            )
        except UsageError as error:
            self._report(f"warning: samples are drawn from {base.name}. {error}")
            return False
        except KeyboardInterrupt:
            if steps is None:  # not while it is timed
                self._report(f"The flow is not trained yet: until then, samples are drawn from {base.name}.")
            raise
        return True

    def _of(self, n: int) -> int:
        return n if self._dataset.size is None else min(n, self._dataset.size)
