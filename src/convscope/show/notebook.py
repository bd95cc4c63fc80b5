"""What objects show of themselves in a notebook, as small pieces of HTML. Receives records and text; no torch."""

from __future__ import annotations

import html
from collections.abc import Sequence

from convscope.records import EpochRecord


def learner_html(title: str, epochs: Sequence[EpochRecord], network: str) -> str:
    """A learner: its one-line description, a row for each epoch, and the network's table folded away.

    Args:
        title: the one-line description.
        epochs: the finished ones.
        network: the network's table as text.
    """
    parts = [f"<p><b>{html.escape(title)}</b></p>"]
    if epochs:
        names = list(epochs[0].metrics)
        head = "".join(
            f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in ("epoch", "train_loss", "valid_loss", *names, "seconds")
        )
        rows = "".join(
            f"<tr><td>{e.epoch}</td><td>{e.train_loss:.4f}</td><td>{e.valid_loss:.4f}</td>"
            + "".join(f"<td>{e.metrics[name]:.4f}</td>" for name in names)
            + f"<td>{e.seconds:.1f}</td></tr>"
            for e in epochs
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    parts.append(f"<details><summary>network</summary><pre>{html.escape(network)}</pre></details>")
    return "".join(parts)
