"""Options that the objectives of several models share, as fields of their configurations. No torch here."""

from typing import Annotated

from pydantic import Field

from genzoo.duration import MOST

DiffAug = Annotated[
    bool,
    Field(
        description="images: whatever the encoder sees in adversarial training is moved and has a square cut out, each "
        "with probability 1/2 (DiffAugment)"
    ),
]
R1 = Annotated[
    float,
    Field(
        ge=0,
        description="gamma of a penalty on real images in the encoder, beside their KL: gamma / 2 E|d KL(x) / dx|^2 "
        "(R1 on the KL, ours); 0 = none; try 1e-6 to 1e-2",
    ),
]
R2 = Annotated[float, Field(ge=0, description="the same on samples (R2)")]
PENALTY_EVERY = 16  # steps: StyleGAN2's
PenaltyEvery = Annotated[
    int,
    Field(gt=0, le=MOST, description="steps from one penalty of r1 and r2 to the next, so many times as large"),
]
EncoderSteps = Annotated[
    int,
    Field(
        gt=0,
        le=100,
        description="updates of the encoder for one of the decoder (ours), each on a real batch of its own, so that a "
        "step takes so many",
    ),
]
