"""Priors that are fitted to what a trained encoder outputs, and sampled in place of the objective's.

Ex-post density estimation (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", Section 4): latents of
real data are not distributed as the prior of the objective, and samples from the gaps between them look like no data.
`gmm` is a mixture of Gaussians, `flow` a mixture that a flow refines.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genzoo.errors import UsageError
from genzoo.files import utf8_path
from genzoo.fitted import flow as _flow
from genzoo.fitted import mixture as _mixture
from genzoo.fitted.flow import Flow, fit_flow
from genzoo.fitted.mixture import Mixture, described
from genzoo.fitted.mixture_fit import fit_mixture

FILE = "prior.safetensors"  # beside a model's weights
PATTERN = r"(?P<kind>gmm|flow)(:(?P<number>[1-9]\d*))?"

FittedPrior = Mixture | Flow


@dataclass(frozen=True)
class Asked:
    """A fitted prior by name: `gmm`, `gmm:K` of K components, `flow`, or `flow:N` of N steps of training."""

    kind: str
    number: int | None  # None: chosen by held-out encodings (gmm), or the default (flow)


def parse(name: str) -> Asked | None:
    """Reads the name of a fitted prior; None where it is none."""
    match = re.fullmatch(PATTERN, name)
    return None if match is None else Asked(match["kind"], int(match["number"]) if match["number"] else None)


def knows(fitted: FittedPrior | None, classes: int) -> bool:
    """Whether a model's fitted prior can be sampled by class, see `Mixture.knows`."""
    mixture = fitted.base if isinstance(fitted, Flow) else fitted
    return mixture is not None and mixture.knows(classes)


def select(fitted: FittedPrior | None, name: str) -> FittedPrior | None:
    """Returns what a model's fitted prior offers by this name: itself, the mixture of a flow, or None."""
    mixture = fitted.base if isinstance(fitted, Flow) else fitted
    found = mixture if name.startswith("gmm") else fitted if isinstance(fitted, Flow) else None
    return found if found is not None and name in (found.name, found.name.partition(":")[0]) else None


def fit(
    encodings: Tensor,
    name: str,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
    labels: Tensor | None = None,
) -> FittedPrior:
    """Fits the prior of this name to encodings [N, *latent]; see `fit_mixture`, also for labels, and `fit_flow`.

    Raises:
        UsageError: no fitted prior has this name, or none can be fitted to these encodings.
    """
    asked = parse(name)
    if asked is None:
        raise UsageError(f"There is no fitted prior {name!r}: take gmm, gmm:K, flow or flow:N.")
    if asked.kind == "gmm":
        return fit_mixture(encodings, asked.number, seed, device, labels)
    base, steps = fit_mixture(encodings, None, seed, device, labels), asked.number or _flow.STEPS
    return fit_flow(encodings, base, steps, seed, device=device, progress=progress)


def load_fitted(path: Path, dim: int) -> FittedPrior:
    """Reads what `save` of a mixture or a flow wrote, for latents of `dim` numbers; never with pickle.

    Raises:
        UsageError: it is damaged, or of other latents.
    """
    kinds = {_mixture.FORMAT: Mixture.of, _flow.FORMAT: Flow.of}
    try:
        with utf8_path(Path(path)) as opened, safe_open(opened, framework="pt") as file:
            about = described(file.metadata() or {})
            if (make := kinds.get(about.get("format", ""))) is None:
                raise ValueError(f"its format is {about.get('format')}, not one of {', '.join(kinds)}")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (not a dict)
        fitted = make(tensors, about)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError, SafetensorError) as error:
        raise UsageError(
            f"{path} cannot be read as a fitted prior ({error}): upgrade genzoo if a newer one wrote it, or rename it; "
            "`genzoo sample RUN --prior gmm` then fits one."
        ) from error
    if fitted.dim != dim:
        raise UsageError(f"{path} is a prior of {fitted.dim} latent dimensions, and the model has {dim}: rename it.")
    return fitted
