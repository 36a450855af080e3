"""The check for copies of training images: figures of a trained model, and a picture of what is nearest to a copy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from genzoo.data import heldout_split
from genzoo.dataspec import last_name
from genzoo.errors import UsageError
from genzoo.evaluation.evaluate import Job, result_line
from genzoo.evaluation.lines import ScoreLine
from genzoo.evaluation.protocols import get_protocol
from genzoo.evaluation.subject import ModelSubject
from genzoo.files import write_text
from genzoo.metrics.copies import FEWEST, RARE, Comparison, Neighbors, compare
from genzoo.metrics.inputs import TrainingSet
from genzoo.metrics.pyramid import Reference
from genzoo.metrics.registry import Result
from genzoo.models.sources import find_config
from genzoo.noise import generator
from genzoo.pictures import save_grid
from genzoo.runs.card import with_section
from genzoo.runs.data import as_trained
from genzoo.spec import DataConfig

N = 256  # samples, and held-out images at most
PICTURE = "copies.png"  # in a run folder
ROWS, SHOWN = 6, 3  # of the picture: images of each kind, and training images beside each
TITLE = "Check for copies"  # of the section in a model card
LEGEND = f"""![copies]({PICTURE})

The rows begin with the samples that are nearest to a copy; below the gap, with held-out images, which are no copies.
Beside each are the training images that are nearest to it."""
NAMES = {"pixels": "in pixels", "features": "in the encoder's features"}


@dataclass(frozen=True)
class Checked:
    """What was found: the result line of the protocol, and what it was computed from."""

    line: ScoreLine
    found: Comparison

    def summary(self) -> str:
        """The shares of copies, in one sentence."""
        n, m = len(self.found.samples), len(self.found.heldout)
        shares = ", ".join(f"{space.share:.0%} {NAMES[name]}" for name, space in self.found.spaces.items())
        chance = f"up to {self.found.allowed:.0%} may be chance with {m:,} of these"
        if same := self.found.duplicates:
            chance += f"; {same:,} held-out image{'s' * (same > 1)} left out, which are training images, too"
        return f"copies of training images among {n:,} samples: {shares} (held-out images: {RARE:.0%}; {chance})"

    def distances(self) -> Iterator[str]:
        """The other figures, in a sentence each."""
        ratios = ", ".join(f"{space.ratio:.2f} x {NAMES[name]}" for name, space in self.found.spaces.items())
        yield f"median distance to the nearest training image, over that of held-out images: {ratios}"
        if pyramid := self.line.details.get("pyramid_frechet"):
            train, heldout, n = (pyramid[key] for key in ("train", "heldout", "n"))
            yield (
                f"Fréchet distance over a Laplacian pyramid: {train:.3g} to training images, {heldout:.3g} to held-out "
                f"images, {n:,} of each"
            )

    def warning(self) -> str:
        """What to do where samples are copies; "" where they are not."""
        if not self.found.alarming:
            return ""
        most = max(space.share for space in self.found.spaces.values())
        return (
            f"{most:.0%} of the samples are copies of training images: look at the picture, add data, train for fewer "
            "images, or with a smaller arch.z_dim"
        )

    def into_card(self, folder: Path) -> Path | None:
        """Writes the result into the card of a saved model, or of a run's `model/`, and draws the picture beside it.

        Returns:
            the card; None where there is none, or none that can be read.
        """
        saved = Path(find_config(folder)[0])
        card, summary = saved / "README.md", self.summary()
        try:
            text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        self.save(saved / PICTURE)
        write_text(card, with_section(text, TITLE, f"{summary[0].upper()}{summary[1:]}.\n\n{LEGEND}"))
        return card

    def save(self, path: Path) -> None:
        """Draws the samples that are nearest to a copy, each beside the nearest training images, in pixels on the left
        and in features on the right; and below, behind a gap, the same of held-out images.
        """
        upper = _rows(self.found, self.found.samples, [space.samples for space in self.found.spaces.values()])
        lower = _rows(self.found, self.found.heldout, [space.heldout for space in self.found.spaces.values()])
        save_grid([*upper, torch.ones_like(upper[0][:1]), *lower], path)


def _rows(found: Comparison, images: Tensor, spaces: list[Neighbors]) -> list[Tensor]:
    """One row for each of the closest images: [images, C, H, W] each, with white ones between spaces."""
    orders = [space.closeness.argsort()[:ROWS] for space in spaces]
    rows = []
    for numbers in zip(*orders, strict=True):
        blocks = []
        for number, space in zip(numbers, spaces, strict=True):
            image = images[number][None]
            blocks += [torch.ones_like(image), image, found.take(space.numbers[number, :SHOWN].cpu())]
        rows.append(torch.cat(blocks[1:]))
    return rows


def check_copies(subject: ModelSubject, data: DataConfig, n: int = N, seed: int = 0, progress: bool = True) -> Checked:
    """Compares samples, drawn as `genzoo sample` does by default, and held-out images with training images.

    Args:
        subject: the model, of images.
        data: what it was trained on.
        n: samples.
        seed: of all random choices.
        progress: show bars.

    Raises:
        UsageError: the model is one of points, nothing is held out, or there are too few training images.
    """
    if heldout_split(data) is None:
        raise UsageError(
            f"nothing of {last_name(data.name)} is held out to compare samples with, as it is of 20 images or more "
            "without data.holdout=0: look at `genzoo sample RUN --neighbors 4`."
        )
    fitted = "_fitted" * (subject.model.fitted_prior is not None)
    protocol, kept = get_protocol(f"copies{n}_train{fitted}"), list[Comparison]()

    def compute(images: TrainingSet) -> Result:
        kept.append(compare(images))
        result = kept[-1].result()
        return replace(result, details={**result.details, **_pyramid(kept[-1], seed)})

    job = Job(subject, replace(protocol, metric=replace(protocol.metric, compute=compute)), data, seed, None, progress)
    return Checked(result_line(job), kept[0])


def check_run(folder: Path, device: torch.device) -> Checked:
    """Checks what a run has just saved, draws `copies.png` beside it, and returns the figures, which its card has, too.

    Raises:
        UsageError: as `check_copies`.
    """
    subject = ModelSubject(str(folder), device)
    checked = check_copies(subject, as_trained(str(folder), subject.model, None).data, progress=False)
    checked.save(folder / PICTURE)
    checked.into_card(folder)
    return checked


def _pyramid(found: Comparison, seed: int) -> dict[str, dict[str, float]]:
    """Distances of samples to as many training and held-out images: small sets look farther away."""
    m = min(len(found.samples), len(found.heldout), found.size)
    if m < FEWEST:
        return {}
    training = found.take(torch.randperm(found.size, generator=generator(seed, "copies training"))[:m])
    real = {"train": training, "heldout": found.heldout[:m]}
    distances = {split: Reference(images).distance(found.samples[:m]) for split, images in real.items()}
    return {"pyramid_frechet": {**distances, "n": m}}
