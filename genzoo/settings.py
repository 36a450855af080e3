"""Options as text: `section.field=value`, typed by the field's annotation; unknown ones are refused with a
suggestion.
"""

import contextlib
import dataclasses
import functools
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from genzoo.duration import in_count
from genzoo.errors import UsageError, did_you_mean, shown

T = TypeVar("T")
FINITE = ConfigDict(allow_inf_nan=False)
LARGEST = 2**16  # pixels per side
DURATIONS = in_count.__module__  # whose checks are those of durations


@functools.cache
def _hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(cls: type, field: str | None = None) -> TypeAdapter:
    """Reads values of a field, or of the whole class. Kept, because a suite resolves hundreds of configurations."""
    return TypeAdapter(cls) if field is None else TypeAdapter(_hints(cls)[field], config=FINITE)


def as_texts(settings: str | Sequence[str]) -> list[str]:
    """Returns one or several `section.field=value` texts as a list.

    Raises:
        UsageError: they are something else.
    """
    texts: list[Any] = [settings]
    if not isinstance(settings, str) and isinstance(settings, Iterable):
        texts = list(settings)
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"settings={cut(settings)}: give texts, as in settings=['train.lr=1e-4'].")
    return texts


def unknown_section(section: str, value: Any, classes: Mapping[str, type]) -> UsageError:
    """Makes the error of a keyword that is no section: it may be a field of one."""
    places = [f"{place.partition('.')[0]}={{{section!r}: {cut(value)}}}" for place in _places(section, classes)]
    hint = f" Did you mean {' or '.join(places)}?" if places else did_you_mean(section, classes)
    return UsageError(f"Unknown section {section!r} in resolve(...).{hint}")


def parse_setting(text: str, classes: Mapping[str, type]) -> tuple[str, str, Any]:
    """Parses `section.field=value` into the section, the field (or `field.key` of a table) and a typed value."""
    key, equals, value = text.partition("=")
    section, dot, field = key.partition(".")
    if not equals or not dot or not field:
        raise UsageError(
            f"--set {shown(text)} is not section.field=value, as in --set {_example(key, value, classes)}."
        )
    if section not in classes:
        raise UsageError(f"Unknown section {shown(section)} in --set {key}.{_suggested(section, field, classes)}")
    name, _, entry = field.partition(".")
    cls = classes[section]
    if name not in _hints(cls) and (places := _places(name, classes)):
        raise UsageError(f"Unknown option {section}.{name}. Did you mean {' or '.join(places)}?")
    known(section, name, cls)
    if entry:
        tables = [{entry: reading} for reading in _readings(value)]
        return section, field, _validate(key, value, _adapter(cls, name), tables, cls, name)
    return section, field, _validate(key, value, _adapter(cls, name), _readings(value), cls, name)


def _places(field: str, classes: Mapping[str, type]) -> list[str]:
    """Returns the options of this name, in any section."""
    return [f"{section}.{field}" for section, cls in classes.items() if field in _hints(cls)]


def _example(key: str, value: str, classes: Mapping[str, type]) -> str:
    """Returns what was meant by a text without a section or a value, or else an example."""
    places = _places(key, classes) or [place for place in (key,) if key.partition(".")[2]]
    return f"{places[0]}={value or 'VALUE'}" if places else "train.lr=1e-4"


def _suggested(section: str, field: str, classes: Mapping[str, type]) -> str:
    places = _places(field, classes)
    return f" Did you mean {' or '.join(places)}?" if places else did_you_mean(section, classes)


def _readings(value: str) -> list[Any]:
    """The ways to read a text, likeliest first: JSON, none, HxW, the text itself, a comma list, a count."""
    if not value.strip():  # what an unset variable of the shell leaves is no text
        return [[]]
    readings: list[Any] = []
    with contextlib.suppress(ValueError, RecursionError):
        readings.append(json.loads(value))
    if value.lower() in ("none", "null"):
        readings.append(None)
    if re.fullmatch(r"[0-9]{1,6}x[0-9]{1,6}", value):
        readings.append([int(side) for side in value.split("x")])
    readings += [value, [part.strip() for part in value.split(",") if part.strip()]]
    with contextlib.suppress(UsageError):
        readings.append(in_count(value))
    return readings


def _validate(key: str, value: str, adapter: TypeAdapter, readings: Sequence[Any], cls: type, name: str) -> Any:
    """Returns the first reading that the field takes, or refuses `value` with what is wrong with the likeliest one."""
    errors: list[tuple[str, str]] = []  # kind, message
    for reading in readings:
        try:
            return adapter.validate_python(reading)
        except ValidationError as error:
            errors += [(found["type"], found["msg"]) for found in error.errors()]
        except OverflowError:
            errors.append(("too_large", "it is too large"))
    kind, default = next((kind, default) for field, kind, default, _ in fields(cls) if field == name)
    own = [message for kind, message in errors if kind == "value_error"]  # of genzoo's validators
    exact = [message for kind, message in errors if not kind.endswith(("_type", "missing"))]  # of the right type
    message = lower([*own, *exact, errors[0][1]][0]) if value.strip() else "should not be empty"
    raise UsageError(f"{key}={shown(value)[1:-1]}: {message}; it is {kind}, default {show(default)}.")


def validated(section: str, cls: type[T], values: Mapping[str, Any]) -> T:
    """Makes a configuration of a section's values by field.

    Raises:
        UsageError: unknown field (with a suggestion), or a value that its field does not take.
    """
    for field in values:
        known(section, field, cls)
    try:
        return _adapter(cls).validate_python({field: _plain(value) for field, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{section}.{place}: {lower(first['msg'])} (got {cut(first['input'])}).") from error


def cut(value: Any) -> str:
    """Shows any value in a message, shortened to a line."""
    return shown(repr(value))[1:-1]


def _plain(value: Any) -> Any:
    """A number of numpy or torch as Python's."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


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
    match = re.fullmatch(r"([0-9]{1,9})(?:[xX]([0-9]{1,9}))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(size) or max(size) > LARGEST:
        limit = f", at most {LARGEST}" if max(size) > LARGEST else ""
        raise UsageError(f"{shown(text)} is not a resolution: write 256, or height x width as in 48x64{limit}.")
    return size


def as_size(res: int | str | Sequence[int]) -> tuple[int, int]:
    """Returns (height, width) of 256, `256`, `48x64` or (48, 64).

    Raises:
        UsageError: it is none of these.
    """
    sides = [res] if isinstance(res, str) or hasattr(res, "__index__") else res
    if not isinstance(sides, Sequence) or not 1 <= len(sides) <= 2:
        raise UsageError(f"{cut(res)} is not a resolution: give pixels per side, 256, or (height, width), (48, 64).")
    return parse_size("x".join(map(str, sides)))


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
        checks = (extra.func.__module__ for extra in args[1:] if isinstance(extra, AfterValidator))
        return "duration" if DURATIONS in checks else _type_name(args[0])
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_type_name(args[0])}" if args[-1] is Ellipsis else ",".join(map(_type_name, args))
    if origin is dict:
        return "table"
    if args:
        return " | ".join("none" if arg is type(None) else _type_name(arg) for arg in args)
    return "none" if hint is type(None) else hint.__name__
