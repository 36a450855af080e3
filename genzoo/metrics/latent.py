"""KL and ELBO of a model with a Gaussian encoder, for real images, their reconstructions and samples."""

import torch
from torch import Tensor

from genzoo.metrics.inputs import Posteriors
from genzoo.metrics.registry import Result, Value, metric
from genzoo.models.autoencoder import Posterior


@metric(
    "elbo",
    inputs=Posteriors,
    values={
        "kl_real": Value("KL real, nats"),
        "kl_reconstruction": Value("KL reconstruction, nats"),
        "kl_sample": Value("KL sample, nats"),
        "elbo": Value("ELBO, nats", "higher"),
    },
    definition="Mean KL to the prior in nats of {n} images of the {split} split, of their reconstructions and of as "
    "many samples; ELBO = -(SSE / 2 + KL) of the real ones, from the posterior's mode.",
    examples=("elbo10k_test",),
)
def latent_metric(images: Posteriors) -> Result:
    model = images.model

    def kl(x: Tensor) -> Tensor:
        posterior = model.encode(x).latent_dist
        assert isinstance(posterior, Posterior)
        return model.kl(posterior.mean, posterior.logvar)

    rows = []
    for x in images.real():
        score = model.score(x)
        rows.append((score["kl"], kl(model.reconstruct(x)), -(score["sse"] / 2 + score["kl"])))
    kl_real, kl_reconstruction, elbo = (torch.cat(column) for column in zip(*rows, strict=True))
    n = len(kl_real)
    kl_sample = torch.cat([kl(x) for x in images.generate(n)])
    columns = {"kl_real": kl_real, "kl_reconstruction": kl_reconstruction, "kl_sample": kl_sample, "elbo": elbo}
    means = {name: values.mean().item() for name, values in columns.items()}
    return Result(means, details={"n_real": n, "n_fake": n})
