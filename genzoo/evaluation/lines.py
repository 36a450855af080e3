"""Lines of a results file: dataclasses that write themselves as JSON objects and read themselves back."""

import dataclasses
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from genzoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Line:
    """Base of all kinds of lines; unknown keys are ignored when reading."""

    kind: ClassVar[str]  # the value of the key `kind`

    def to_json(self) -> dict[str, Any]:
        """Returns all fields, and the kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, record: dict[str, Any], where: str) -> Self:
        """Reads what `to_json` wrote; `where` names the line in messages.

        Raises:
            UsageError: a key is missing, or a value has the wrong type.
        """
        try:
            return TypeAdapter(cls).validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{where}: {key}: {first['msg']}; fix or remove that line.") from None


@dataclass(frozen=True, kw_only=True)
class ScoreLine(Line):
    """One protocol's values on one subject, with everything that decides them."""

    kind = "score"

    run: str = ""
    model: str = ""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)  # of a run's preset
    data: str
    split: str | None = None
    found: dict[str, Any] = dataclasses.field(default_factory=dict)  # facts about the data, see `genzoo.data.found`
    resolution: tuple[int, ...] | None = None  # height, width; points have none
    seed: int | None = None  # of the training run
    images_seen: int | None = None
    protocol: str
    values: dict[str, float | None]
    spreads: dict[str, float | None] = dataclasses.field(default_factory=dict)  # std over repeated draws from one model
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    commit: str | None = None
    versions: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str | None = None
    seconds: float | None = None
