"""Records to plain JSON values and back, with a schema number; numbers that are not finite are null."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

SCHEMA = 1  # grows when a field changes its meaning; new fields alone do not change it
R = TypeVar("R")


def to_json(record: object) -> Any:
    """Turn records, and tuples, dicts and numbers of them, into plain JSON values; numbers that are not finite become None."""
    if isinstance(record, float):
        return record if math.isfinite(record) else None
    if record is None or isinstance(record, str | int):
        return record
    kind: Any = type(record)
    if (names := _field_names(kind)) is not None:
        return {name: to_json(getattr(record, name)) for name in names}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    return record.hex() if isinstance(record, bytes) else record


@cache
def _field_names(kind: type[Any]) -> tuple[str, ...] | None:
    """The names of a dataclass's fields; None for any other class."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def from_json(kind: type[R], value: Any) -> R:
    """Build a record of the given class from what `to_json` made; unknown keys of newer versions are ignored.

    Raises:
        KeyError: a field without a default is missing.
        TypeError: the value is not of the shape that the class describes.
    """
    wanted: Any = kind
    built: R = _reader(wanted)(value)
    return built


def dump(record: object) -> str:
    """The record as compact JSON text, with the schema number when it is an object."""
    value = to_json(record)
    if isinstance(value, dict):
        value = {"schema": SCHEMA, **value}
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """How a value of a type is read: worked out once, since looking at types takes longer than building a record."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [arg for arg in args if arg is not type(None)]
        return _optional(kinds[0]) if len(kinds) == 1 else _as_it_is  # plain kinds, such as int | str: JSON tells them apart
    if kind is float:
        return _number
    if kind is bytes:
        return bytes.fromhex
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    if origin is tuple:
        return _tuple(args)
    if origin in (dict, Mapping):
        read = _reader(args[1])
        return lambda value: {key: read(part) for key, part in value.items()}
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _optional(kind: Any) -> Callable[[Any], Any]:
    read = _reader(kind)
    return lambda value: None if value is None else read(value)


def _tuple(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        read = _reader(kinds[0])
        return lambda value: tuple(read(part) for part in value)
    readers = [_reader(kind) for kind in kinds]
    return lambda value: tuple(read(part) for read, part in zip(readers, value, strict=True))


def _record(kind: type[Any]) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    fields = tuple((f.name, _reader(hints[f.name]), not _has_default(f)) for f in dataclasses.fields(kind))

    def build(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object for {kind.__name__}, got {type(value).__name__}")
        return kind(**{name: read(value[name]) for name, read, needed in fields if needed or name in value})

    return build


def _has_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
