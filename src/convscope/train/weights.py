"""Weights on disk: safetensors with a JSON description, never a pickle.

A weights file describes itself: network, classes, preprocessing and settings travel in its header, so that it can be used without its run directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from convscope.errors import CheckpointError, ModelError
from convscope.nn import Recipe, recipe_of
from convscope.records import SCHEMA
from convscope.rundir import write_bytes

if TYPE_CHECKING:
    from convscope.train.task import Task

HEADER = "convscope"  # the key of our description in the file's metadata
PICKLES = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
)  # torch.save writes a zip archive, or a bare pickle


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a weights file says about itself.

    Attributes:
        model: name of the network's function in convscope.nn, "" for a class of the user's own.
        arguments: all arguments with which it was built.
        classes: class names in the order of the logits.
        preprocess: how an image becomes the network's input, `Preprocess.to_config()`; for ratings the names of users and items.
        train: the settings of the training.
    """

    model: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    preprocess: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


def describe_weights(model: nn.Module, classes: tuple[str, ...], task: Task, train: dict[str, Any]) -> WeightsInfo:
    """What the weights file of a network trained for this task says about itself."""
    recipe = recipe_of(model) or Recipe("", {})
    return WeightsInfo(recipe.name, recipe.arguments, classes, task.inputs(), train)


def plain_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory, as safetensors needs."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to one file, atomically.

    Raises:
        RunError: the file cannot be written; an old one is untouched.
    """
    write_bytes(path, save(plain_copies(tensors), {HEADER: json.dumps({"schema": SCHEMA, **header}, allow_nan=False)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, or any safetensors file (whose header is then empty).

    Returns:
        The tensors, on the CPU, and the header.

    Raises:
        CheckpointError: the file is missing, damaged, or a pickle.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}. Give a run directory or a .safetensors file.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Give a run directory or a .safetensors file.") from None
    if start.startswith(PICKLES):
        raise CheckpointError(
            f"{path} is a pickle (what torch.save writes), and loading a pickle can run any code that is hidden in it, so convscope does not. "
            "If you trust it, convert it once in Python: safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')."
        )
    try:
        with safetensors.safe_open(path, "pt") as opened:
            header = json.loads((opened.metadata() or {}).get(HEADER, "{}"))
        return load_file(path), header
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged, cut off, or not a safetensors file ({error}). Restore it from a copy, or train again."
        ) from None


def save_weights(path: Path, model: nn.Module, info: WeightsInfo) -> None:
    """Write a network's parameters and buffers with its description.

    Raises:
        RunError: the file cannot be written; an old one is untouched.
    """
    save_tensors(path, model.state_dict(), asdict(info))


def load_weights(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Read a weights file.

    Raises:
        CheckpointError: the file is missing, damaged, or a pickle.
    """
    tensors, header = load_tensors(path)
    known = {name: header[name] for name in WeightsInfo.__slots__ if name in header}
    if "classes" in known:
        known["classes"] = tuple(known["classes"])
    return tensors, WeightsInfo(**known)


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a network that has exactly these names and shapes.

    Raises:
        ModelError: they do not fit; nothing has been changed then.
    """
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) or sorted(name for name in own if own[name].shape != tensors[name].shape)
    if wrong:
        raise ModelError(
            f"{path} holds the weights of another network: {len(wrong)} tensors differ, the first is {wrong[0]!r}. Build the network as it was trained."
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
