"""Options that the objectives of several models share, as fields of their configurations. No torch here."""

from typing import Annotated

from pydantic import Field

DiffAug = Annotated[
    bool,
    Field(
        description="images: whatever the encoder sees in training is moved and has a square cut out, each with "
        "probability 1/2 (DiffAugment)"
    ),
]
