"""JSON in and out of the lab: bodies read with bounds and checked field by field, answers without NaN, errors as one sentence each.

It receives requests and records and knows neither runs nor networks.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from convscope.records import to_json

Json = Any  # what json.loads gives
Fields = Mapping[str, Json]
LARGEST_ECHO = 60  # characters of a wrong value that are repeated in a message


class Refused(Exception):
    """A request that is not answered as asked.

    Attributes:
        status: of HTTP, 400 to 499 (or 503 when the lab is busy).
        message: one sentence on what is wrong; hint: what to do next, or None.
    """

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


def answer(value: object, status: int = 200) -> Response:
    """Records and plain values as JSON; numbers that are not finite are null."""
    return Response(as_json(value), status, media_type="application/json")


def as_json(value: object) -> str:
    """Compact JSON in ASCII; plain values, of which pictures hold hundreds of thousands, are not looked through one by one in Python."""
    try:
        return json.dumps(value, default=to_json, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a number that is not finite
        return json.dumps(to_json(value), allow_nan=False, separators=(",", ":"))


def error_answer(status: int, message: str, hint: str | None = None) -> Response:
    """What every request that fails gets: {"error": {"message", "hint"}}."""
    return answer({"error": {"message": message, "hint": hint}}, status)


def array(values: npt.ArrayLike) -> dict[str, Json]:
    """Numbers for a picture: shape, least and greatest finite number, and float32 values, little-endian, in base64."""
    numbers = np.ascontiguousarray(values, dtype="<f4")
    finite = numbers[np.isfinite(numbers)]
    return {
        "shape": list(numbers.shape),
        "low": float(finite.min()) if finite.size else 0.0,
        "high": float(finite.max()) if finite.size else 0.0,
        "data": base64.b64encode(numbers.tobytes()).decode("ascii"),
    }


async def body_of(request: Request) -> Fields:
    """The JSON object in a request's body; the middleware has bounded its size.

    Raises:
        Refused: it is no JSON object, nested too deep, or holds NaN or infinite numbers.
    """
    content = await request.body()
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The request's body is not JSON.", "Send an object, such as {}, in UTF-8, without NaN or Infinity.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The request's body is not a JSON object.", "Send an object, such as {}.")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


# ---------------------------------------------------------------- fields


def refuse(name: str, value: Json, wanted: str) -> NoReturn:
    """Refuse a field's value.

    Raises:
        Refused: always.
    """
    shown = json.dumps(value)
    shown = shown if len(shown) <= LARGEST_ECHO else shown[:LARGEST_ECHO] + " ..."
    raise Refused(400, f'"{name}" is {shown}, which cannot be meant.', f"Give {wanted}.")


def whole(fields: Fields, name: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number between bounds; `default` stands for one that is missing, and without a default it must be there."""
    value = fields.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        refuse(name, value, f"a whole number from {least} to {most}")
    return value


def number(fields: Fields, name: str, least: float, most: float, default: float | None = None) -> float:
    """A number between bounds."""
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        refuse(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def text(fields: Fields, name: str, most: int, default: str | None = None) -> str:
    """A string of bounded length without control characters other than line ends."""
    value = fields.get(name, default)
    if (
        not isinstance(value, str)
        or len(value) > most
        or any((ord(c) < 32 and c not in "\n\r\t") or 0xD800 <= ord(c) < 0xE000 for c in value)
    ):
        refuse(name, value, f"text of at most {most:,} characters")
    return value


def flag(fields: Fields, name: str, default: bool) -> bool:
    """True or false."""
    value = fields.get(name, default)
    if not isinstance(value, bool):
        refuse(name, value, "true or false")
    return value


def choice(fields: Fields, name: str, known: tuple[str, ...], default: str) -> str:
    """One of some words."""
    value = fields.get(name, default)
    if value not in known:
        refuse(name, value, f"one of {', '.join(known)}")
    return str(value)


def part(fields: Fields, name: str) -> Fields:
    """An object inside."""
    value = fields.get(name)
    if not isinstance(value, dict):
        refuse(name, value, "an object")
    return value


def query_whole(query: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    """A whole number of the address's query."""
    given = query.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 9 or not least <= int(given) <= most:
        refuse(name, given, f"a whole number from {least} to {most}")
    return int(given)
