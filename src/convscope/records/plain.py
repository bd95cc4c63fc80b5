"""Records to plain JSON values and back, with a schema number; numbers that are not finite are null."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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
    built: R = _build(kind, value)
    return built


def dump(record: object) -> str:
    """The record as compact JSON text, with the schema number when it is an object."""
    value = to_json(record)
    if isinstance(value, dict):
        value = {"schema": SCHEMA, **value}
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _build(kind: Any, value: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or origin is Literal:
        return value
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        return _build(kinds[0], value) if len(kinds) == 1 else value  # plain kinds, such as int | str: JSON tells them apart
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is bytes:
        return bytes.fromhex(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise TypeError(f"expected an object for {kind.__name__}, got {type(value).__name__}")
        return kind(**{name: _build(hint, value[name]) for name, hint, needed in _fields(kind) if needed or name in value})
    if origin is tuple:
        items = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        return tuple(_build(item, part) for item, part in zip(items, value, strict=True))
    if origin in (dict, Mapping) or str(origin) == "<class 'collections.abc.Mapping'>":
        return {key: _build(args[1], part) for key, part in value.items()}
    return value


@cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """(name, type, whether it must be given) of a record's fields; working out their types takes longer than building a record."""
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name], not _has_default(f)) for f in dataclasses.fields(kind))


def _has_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
