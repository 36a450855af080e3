"""Which metrics can score which subjects."""

from genzoo.evaluation.subject import Subject
from genzoo.metrics.inputs import LabeledPair, Points, Posteriors, Reconstructions, RunLog
from genzoo.metrics.registry import Metric, list_metrics
from genzoo.models.autoencoder import Autoencoder, can_encode
from genzoo.models.generative import Generative


def refusal(metric: Metric, subject: Subject) -> str | None:
    """Returns why a metric cannot score a subject, to be read after the protocol's name; or None."""
    if reason := _mismatch(metric, subject):
        return f"{reason}: take {', '.join(_words(subject)) or 'another model'}"
    return None


def lacks_encoder(metric: Metric, model: type[Generative]) -> bool:
    """Whether a metric is of reconstructions, and models of a class have no encoder."""
    return issubclass(metric.inputs, Reconstructions) and not issubclass(model, Autoencoder)


def _mismatch(metric: Metric, subject: Subject) -> str | None:
    model, inputs = subject.model, metric.inputs
    if issubclass(inputs, RunLog):
        return None if subject.run else f"is read from a run's log, and {subject.name} is not a run folder"
    if model is None:
        needs_model = issubclass(inputs, Reconstructions | Points | LabeledPair)
        return f"needs a model, and {subject.name} is a folder of images" if needs_model else None
    if inputs.kind != ("images" if model.is_image else "points"):
        return f"is for {inputs.kind}, and {subject.name} is a model of {'images' if model.is_image else 'points'}"
    if issubclass(inputs, LabeledPair) and not model.takes_labels:
        return f"draws samples of given classes, and {subject.name} takes no labels; arch.prior=classes trains one"
    if not issubclass(inputs, Reconstructions):
        return None
    if not can_encode(model):
        why = "encodes with labels" if isinstance(model, Autoencoder) else "has none"
        return f"needs an encoder of images, and {subject.name} {why}"
    if issubclass(inputs, Posteriors) and model.code != "gaussian":
        return f"needs a KL to the prior, and the encoder of {subject.name} outputs points"
    return None


def _words(subject: Subject) -> list[str]:
    """How the names of the protocols begin that can score a subject."""
    metrics = [metric for metric in list_metrics() if _mismatch(metric, subject) is None]
    return list(dict.fromkeys(word for metric in metrics for word in (metric.inception, metric.word) if word))
