"""Samples of given classes and real images with their labels, for metrics that ask for a `LabeledPair`."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from genzoo.data import open_dataset
from genzoo.data.labels import listed
from genzoo.data.sets import class_numbers
from genzoo.errors import UsageError
from genzoo.evaluation.classifier import Classifier, Head
from genzoo.evaluation.features import subset_of
from genzoo.evaluation.protocols import Protocol
from genzoo.evaluation.subject import ModelSubject, Subject
from genzoo.metrics.inputs import ClassPair, LabeledPair
from genzoo.spec import DataConfig


def sampled_as_asked(subject: Subject, protocol: Protocol) -> Subject:
    """Returns the subject as a protocol samples it: of each class in turn, where the metric asks for given classes.

    Raises:
        UsageError: from a fitted prior, and it was fitted without classes.
    """
    if not issubclass(protocol.metric.inputs, LabeledPair):
        return subject
    assert isinstance(subject, ModelSubject)  # others were refused
    subject.model.prior_name(subject.prior, of_classes=True)
    other = copy.copy(subject)
    other.in_turn = True
    return other


class GivenLabels:
    """Which classes real images and samples are of, by the numbers that a classifier has for them.

    Args:
        subject: a model that takes labels.
        data: with their labels, `data.labels`.
        split: of the data.
        classifier: whose classes they must be.

    Raises:
        UsageError: the data has no such labels, or classes that the classifier or the model does not have.
    """

    def __init__(self, subject: Subject, data: DataConfig, split: str, classifier: Classifier):
        assert subject.model is not None
        self._model, name = subject.model, subject.name
        if data.labels is None:
            raise UsageError(f"{name} is trained on labels: name those of the data, e.g. --set data.labels=label.")
        dataset = open_dataset(data, split, progress=False)
        numbers, classes = class_numbers(dataset, data.labels), dataset.classes(data.labels)
        if unknown := [text for text in classes if text not in self._model.classes]:
            raise UsageError(
                f"{dataset.name} has images of {listed(unknown)}, and {name} was trained on "
                f"{listed(self._model.classes)}: give data of the same classes."
            )
        self._head = _head(classifier, data.labels, self._model.classes, name)
        self._real = self._numbers(classes)[torch.from_numpy(numbers)]

    def _numbers(self, classes: Sequence[str]) -> Tensor:
        """The classifier's numbers of classes, int64 [classes]."""
        return torch.tensor([self._head.names.index(name) for name in classes])

    def labeled(self, pair: ClassPair, real: Tensor, fake: Tensor) -> LabeledPair:
        """Adds the labels to what a classifier makes of images of the split and of samples.

        Args:
            pair: the probabilities of its classes.
            real: its features of images of the split, [N, D], as `dataset_features` chooses them.
            fake: of samples, [M, D].
        """
        kind, turns = self._head.name, self._model.classes_in_turn(len(fake))
        chosen = torch.from_numpy(subset_of(len(self._real), len(real), pair.seed))
        return LabeledPair(
            seed=pair.seed,
            details=pair.details,
            extractor=pair.extractor,
            names={kind: pair.names[kind]},
            real={kind: pair.real[kind]},
            fake={kind: pair.fake[kind]},
            real_features=real,
            fake_features=fake,
            real_labels=self._real[chosen],
            fake_labels=self._numbers(self._model.classes)[turns],
        )


def _head(classifier: Classifier, labels: str, classes: Sequence[str], name: str) -> Head:
    """Finds the classifier's output for these labels: of their name, or its only one; it must have all classes."""
    heads = [head for head in classifier.heads if head.classes]
    chosen = next((head for head in heads if head.name == labels), heads[0] if len(heads) == 1 else None)
    if chosen is None or not set(classes) <= set(chosen.names):
        known = listed([head.name for head in heads] if chosen is None else chosen.names)
        raise UsageError(
            f"The classifier of {classifier.about['data']} names {known or 'no classes'}, not the {labels} that {name} "
            f"is trained on, {listed(classes)}: take the classifier of the data that it was trained on."
        )
    return chosen
