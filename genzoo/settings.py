"""Options as text: `section.field=value`, typed by the field's annotation; unknown ones are refused with a
suggestion.
"""

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from genzoo.errors import UsageError, did_you_mean

T = TypeVar("T")


@functools.cache
def _hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(cls: type, field: str | None = None) -> TypeAdapter:
    """Reads values of a field, or of the whole class. Kept, because a suite resolves hundreds of configurations."""
    return TypeAdapter(cls if field is None else _hints(cls)[field])


def parse_setting(text: str, classes: Mapping[str, type]) -> tuple[str, str, Any]:
    """Parses `section.field=value` into the section, the field (or `field.key` of a table) and a typed value."""
    key, equals, value = text.partition("=")
    section, dot, field = key.partition(".")
    if not equals or not dot or not field:
        raise UsageError(f"--set {text!r} is not section.field=value, as in --set train.lr=1e-4.")
    if section not in classes:
        raise UsageError(f"Unknown section {section!r} in --set {key}.{did_you_mean(section, classes)}")
    name, _, entry = field.partition(".")
    known(section, name, cls := classes[section])
    if entry:
        return section, field, _validate(key, TypeAdapter(dict[str, float]), [{entry: value}], cls, name)
    return section, field, _validate(key, _adapter(cls, name), _readings(value), cls, name)


def _readings(value: str) -> list[Any]:
    """The ways to read a text, likeliest first: JSON, none, HxW, a comma list, the text itself."""
    readings: list[Any] = []
    try:
        readings.append(json.loads(value))
    except ValueError:
        pass
    if value.lower() in ("none", "null"):
        readings.append(None)
    if re.fullmatch(r"\d+x\d+", value):
        readings.append([int(side) for side in value.split("x")])
    return [*readings, value, [part.strip() for part in value.split(",") if part.strip()]]


def _validate(key: str, adapter: TypeAdapter, readings: Sequence[Any], cls: type, name: str) -> Any:
    errors = []
    for reading in readings:
        try:
            return adapter.validate_python(reading)
        except ValidationError as error:
            errors.append(error.errors()[0]["msg"])
    kind, default = next((kind, default) for field, kind, default, _ in fields(cls) if field == name)
    given = readings[-2] if len(readings) > 1 else readings[0]
    raise UsageError(f"{key}={given}: {lower(errors[0])}; it is {kind}, default {show(default)}.")


def validated(section: str, cls: type[T], values: Mapping[str, Any]) -> T:
    """Makes a configuration of a section's values by field.

    Raises:
        UsageError: unknown field (with a suggestion), or a value that its field does not take.
    """
    for field in values:
        known(section, field, cls)
    try:
        return _adapter(cls).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{section}.{'.'.join(map(str, first['loc']))}: {lower(first['msg'])} (got {first['input']!r})."
        ) from error


def show(value: Any) -> str:
    """Shows a value the way `--set` takes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "()"
    return "none" if value is None else str(value)


def lower(message: str) -> str:
    """Returns pydantic's message for the middle of a sentence."""
    message = message.removeprefix("Value error, ").removesuffix(".")
    return message[:1].lower() + message[1:]


def known(section: str, field: str, cls: type) -> Any:
    """Returns the field's annotation, or refuses an unknown field with a suggestion."""
    hints = _hints(cls)
    if field not in hints:
        raise UsageError(
            f"Unknown option {section}.{field}.{did_you_mean(field, hints)} See `genzoo train MODEL --help`."
        )
    return hints[field]


def parse_size(text: str) -> tuple[int, int]:
    """Parses `256` or `48x64` (height x width) to (height, width).

    Raises:
        UsageError: it is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match or int(match[1]) == 0 or match[2] == "0":
        raise UsageError(f"{text!r} is not a resolution: write 256, or height x width as in 48x64.")
    return int(match[1]), int(match[2] or match[1])


def fields(cls: type) -> Iterator[tuple[str, str, Any, str]]:
    """Yields (name, type, default, description) of a configuration class, for help texts and errors."""
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        args = typing.get_args(hint)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        described = next((extra.description for extra in args[1:] if getattr(extra, "description", None)), "")
        yield field.name, _type_name(hint), default, described


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return "duration" if any(isinstance(extra, AfterValidator) for extra in args[1:]) else _type_name(args[0])
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_type_name(args[0])}" if args[-1] is Ellipsis else ",".join(map(_type_name, args))
    if origin is dict:
        return "table"
    if args:
        return " | ".join("none" if arg is type(None) else _type_name(arg) for arg in args)
    return "none" if hint is type(None) else hint.__name__
