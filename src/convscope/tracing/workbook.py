"""The workbook of a network that is to be executed first; what is on it is `convscope.show.sheet`'s matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Num
from torch import Tensor, nn

from convscope.arithmetic.execution import Normalisation
from convscope.show.sheet import write_workbook
from convscope.tracing.trace import executed


def workbook(
    model: nn.Module,
    image_CHW: Num[Tensor, "C H W"],
    path: str | Path,
    *,
    classes: Sequence[str] = (),
    normalise: Normalisation | None = None,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
) -> None:
    """Write a network as a live workbook that computes its prediction from the pixels.

    Args:
        model: any module that takes images (N, C, H, W), in evaluation mode.
        image_CHW: one image as the model wants it, or pixels 0..255 when `normalise` is given.
        path: the .xlsx file; an older one is replaced.
        classes: names of the outputs, in order.
        normalise: mean and deviation of each channel on the scale 0..1, when the image holds pixels.
        layer: what to compute instead of the network's output.
        unit: one unit of that layer (or of the output); only what it depends on is written, so that larger networks work too.

    Raises:
        UnknownNameError: there is no such layer.
        TraceError: the model is in training mode, the unit lies outside the layer, or the workbook would be too large.
        ModelError: the image does not fit, or the network decides by values what it does.
        RunError: the file cannot be written.

    Example:
        >>> workbook(model.eval(), image, "net.xlsx", classes=data.classes)
    """
    write_workbook(executed(model, image_CHW, normalise), path, classes=classes, layer=layer, unit=unit)
