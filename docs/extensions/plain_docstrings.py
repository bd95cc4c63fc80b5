"""A Sphinx extension: docstrings are plain text with `code`, not reStructuredText; and signatures are shown as people read them."""

from __future__ import annotations

import re
from typing import Any

JAXTYPED = re.compile(
    r"(?:jaxtyping\.)?(?:Float32|Float|Int64|Int32|Int|UInt8|Num)\[(?:torch\.)?(Tensor|NDArray), *['\"]+ ?([^'\"\]]*)['\"]+\]"
)
MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")


NAMES = re.compile(r"^( +)(\w+(?:, \w+)+):(?= )")


def join_names(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """`rank, world: text` in a list of attributes stays one entry; Sphinx would take all but the last name for a type."""
    lines[:] = [NAMES.sub(lambda found: f"{found[1]}{found[2].replace(', ', ',')}:", line) for line in lines]


def escape(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Bars are bars (|x|), not reStructuredText's substitutions."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def readable(
    _app: object, _what: str, _name: str, _object: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """`Tensor[N C H W]` instead of `Float[Tensor, "N C H W"]`, and names without their modules."""

    def plain(text: str | None) -> str | None:
        return text and MODULES.sub("", JAXTYPED.sub(r"\1[\2]", text))

    return plain(signature), plain(returns)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", join_names, priority=100)  # before napoleon, whose priority is 500
    app.connect("autodoc-process-docstring", escape, priority=900)
    app.connect("autodoc-process-signature", readable)
    return {"parallel_read_safe": True}
