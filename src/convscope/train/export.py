"""Export to ONNX: the network with its normalisation inside, uint8 pixels in, logits out; checked against PyTorch on images.

Resizing and cropping stay outside; the file's metadata says what they were.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from convscope.data import Preprocess, load_data
from convscope.errors import ConvscopeError, ModelError, UsageError
from convscope.rundir import reasons
from convscope.train.predict import Classifier, load_classifier
from convscope.train.settings import TrainSettings

CHECKED = 16  # images compared
TOLERANCE = 1e-4  # of the logits, absolute and relative: float32 sums in another order


class Normalised(nn.Module):
    """A network behind its normalisation: uint8 pixels (N, C, H, W) in, logits (N, L) out."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, -1, 1, 1) * 255)

    def forward(self, images_NCHW: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N L"]:
        """The logits of uint8 images."""
        logits: Tensor = self.model((images_NCHW.float() - self.mean) / self.std)
        return logits


def export_onnx(run_or_file: str | Path, path: Path) -> str:
    """Write an ONNX file and compare it with PyTorch on the run's own validation images.

    Args:
        run_or_file: a run directory or weights file.
        path: the file to write.

    Returns:
        One sentence: where it is, and how well it agrees.

    Raises:
        UsageError: the optional packages onnx, onnxscript and onnxruntime are missing.
        ModelError: the exported network does not agree with PyTorch; the file is not kept.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise UsageError(f"Export needs the package {error.name}. Install the optional packages: pip install 'convscope[onnx]'.") from None
    classifier = load_classifier(run_or_file)
    images_NCHW, which = _images(classifier)
    wrapped = Normalised(classifier.model, classifier.preprocess).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed
    with warnings.catch_warnings(), reasons(path):
        warnings.simplefilter("ignore")  # of the exporter's own insides
        program = torch.onnx.export(
            wrapped,
            (images_NCHW[:2],),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        shape = classifier.preprocess.shape
        for key, value in {
            "classes": json.dumps(classifier.classes, ensure_ascii=False),
            "input": f"uint8, (batch, {', '.join(map(str, shape))}), channels in the order {'grey' if shape[0] == 1 else 'red, green, blue'}, values 0 to 255",
            "preprocessing": f"resize the shorter side, keeping proportions, and crop the centre to {shape[1]} by {shape[2]} pixels; normalisation is inside",
        }.items():
            onnx.helper.set_model_props(proto, {**{p.key: p.value for p in proto.metadata_props}, key: value})
        onnx.save(proto, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"images": images_NCHW.numpy()})[0]
    with torch.no_grad():
        ours = wrapped(images_NCHW).numpy()
    worst = float(np.abs(theirs - ours).max())
    if not np.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE):
        path.unlink()
        raise ModelError(
            f"The exported network does not agree with PyTorch: the logits differ by up to {worst:.3g}. The file was not kept. Please report this."
        )
    return f"{path}: the logits agree with PyTorch within {worst:.1g} on {len(ours)} {which}"


def _images(classifier: Classifier) -> tuple[UInt8[Tensor, "N C H W"], str]:
    """Images to compare on: the run's own validation images, or random pixels where its data is not here any more."""
    shape = classifier.preprocess.shape
    try:
        settings = TrainSettings.from_config(classifier.info.train)
        data = load_data(settings.data, 64, image_size=settings.image_size, valid_pct=settings.valid_pct, seed=settings.seed)
        split = data.valid.split
        pixels = np.stack([split.pixels(index) for index in range(min(CHECKED, len(split)))])
        if pixels.shape[1:] == shape:
            return torch.from_numpy(pixels), "of its validation images"
    except (ConvscopeError, TypeError):
        pass
    random = np.random.default_rng(0).integers(0, 256, (CHECKED, *shape), dtype=np.uint8)
    return torch.from_numpy(random), "random images (its own data is not here any more)"
