"""Numbers, spans of time and commands as people read them. Pure functions: values in, text out."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath

NO_NUMBER = "–"  # shown where there is no number


def percent(share: float | None) -> str:
    """A share as a percentage with two decimals; 100 % and 0 % only when it is exactly that.

    Example:
        >>> percent(0.99125)
        '99.12 %'
    """
    if share is None or math.isnan(share):
        return NO_NUMBER
    rounded = f"{100 * share:.2f}"
    if rounded == "100.00" and share < 1:
        return "over 99.99 %"
    if rounded == "0.00" and share > 0:
        return "under 0.01 %"
    return ("100" if share == 1 else "0" if share == 0 else rounded) + " %"


def figure(value: float | None, digits: int = 4) -> str:
    """A measured number with so many significant digits; NaN and infinities by name.

    Example:
        >>> figure(0.0301234)
        '0.03012'
    """
    if value is None:
        return NO_NUMBER
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return count(int(value))
    size = abs(value)
    text = (
        re.sub(r"e([-+])0+", r"e\1", f"{value:.{digits - 1}e}")
        if size < 1e-4 or size >= 1e7
        else f"{value:,.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    )
    return text.replace("-", "−", 1) if value < 0 else text


def chosen(value: float | None) -> str:
    """A number that someone chose, such as a learning rate, without digits that say nothing.

    Example:
        >>> chosen(0.0600000001)
        '0.06'
    """
    return (
        figure(value)
        if value is None or not math.isfinite(value)
        else re.sub(r"e([-+])0+", r"e\1", f"{value:.4g}").replace("-", "−", value < 0)
    )


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return NO_NUMBER if value is None else f"{value:,}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """A span of time in its two largest units.

    Example:
        >>> duration(92.4)
        '1 min 32 s'
    """
    if seconds is None or not math.isfinite(seconds):
        return NO_NUMBER
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def moment(created: object) -> str:
    """An ISO time as date and time of day; anything else as it is."""
    try:
        when = datetime.fromisoformat(str(created))
    except ValueError:
        return str(created)
    return f"{when.day} {when:%B %Y, %H:%M %Z}".strip()


def plural(value: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> plural(2, "class", "classes")
        '2 classes'
    """
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def command_line(arguments: Sequence[object]) -> str:
    """The command that was typed, quoted for a shell, with the program's path reduced to `convscope`."""
    words = [str(argument) for argument in arguments]
    if not words:
        return ""
    program = PurePath(words[0].replace("\\", "/"))
    if program.name == "__main__.py":
        head, words = ["python", "-m", "convscope"], words[1:]
    else:
        head = ["convscope"]
        if program.stem.removesuffix(".exe") == "convscope":
            words = words[1:]
    return shlex.join([*head, *words])
