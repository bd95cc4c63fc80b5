"""A run's trained network looked into: its images, activations, kernels, traces and workbook, as JSON values.

Networks, executions and validation images are kept, so that the next click is answered at once. Brings in torch; everything here is called from
one worker thread at a time (app.py), because PyTorch's state belongs to the process.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from convscope.arithmetic.receptive import PixelEdges, boxes_at
from convscope.arithmetic.units import layer_of, unit_index
from convscope.data import Split, load_data
from convscope.errors import ConvscopeError
from convscope.lab.exchange import Fields, Refused, array, text, whole
from convscope.lab.pictures import as_fields, data_url, decoded
from convscope.nn import simple_cnn
from convscope.records import Box, Network, Node, to_json
from convscope.rundir import RunDir
from convscope.show.sheet import write_workbook
from convscope.tracing import executed, trace_executed
from convscope.train.predict import Classifier, Prediction, load_classifier
from convscope.train.settings import TrainSettings

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
MOST_CHANNELS = 64  # of a layer that are sent; a person looks at fewer
MOST_NUMBERS = 100_000  # of a layer that are sent: half a megabyte
MOST_TERMS = 20_000  # of a trace that are sent: about 2 MB
CHUNK = 256  # images run through the network at once when wrong ones are looked for
LONGEST_NAME = 300  # characters of a layer's name


@dataclass(frozen=True, slots=True)
class Kept(Generic[K, V]):
    """The last few things that were made, by key."""

    most: int
    held: OrderedDict[K, V] = field(default_factory=OrderedDict)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under a key, made when it is not there."""
        if key not in self.held:
            self.held[key] = make()
            if len(self.held) > self.most:
                self.held.popitem(last=False)
        self.held.move_to_end(key)
        return self.held[key]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the network's preprocessing cut it, uint8 (C, H, W), and its true class when that is known."""

    pixels_CHW: npt.NDArray[np.uint8]
    label: str | None = None


@dataclass(slots=True)
class Subject:
    """A run's network, ready to be looked into."""

    run: str
    classifier: Classifier
    split: Callable[[], Split]
    _networks: Kept[bytes, Network] = field(default_factory=lambda: Kept(8))
    _edges: dict[str, PixelEdges] = field(default_factory=dict)
    _predicted: list[Prediction] = field(default_factory=list)

    def picture(self, fields: Fields) -> Picture:
        """The image that a request names or brings.

        Raises:
            Refused: there is no such image, or it cannot be read.
        """
        image = as_fields(fields.get("image"))
        if "valid" not in image:
            return Picture(decoded(image.get("png"), self.classifier.preprocess.shape))
        split = self.split()
        index = whole(image, "valid", 0, len(split) - 1)
        return Picture(split.pixels(index), self.classifier.classes[int(split.labels_N[index])])

    def network(self, picture: Picture) -> Network:
        """The executed graph for an image, pixels first."""
        preprocess = self.classifier.preprocess
        return self._networks.get(
            picture.pixels_CHW.tobytes(),
            lambda: executed(self.classifier.model, torch.from_numpy(picture.pixels_CHW.copy()), (preprocess.mean, preprocess.std)),
        )

    def inside(self, fields: Fields) -> dict[str, Any]:
        """Every operation's values for an image, and the prediction."""
        picture = self.picture(fields)
        network = self.network(picture)
        [predicted] = self.classifier.predict([picture.pixels_CHW])
        pairs = zip(self.classifier.classes, predicted.probabilities, strict=True)
        return {
            "image": array(picture.pixels_CHW),
            "label": picture.label,
            "prediction": predicted.label,
            "confidence": predicted.confidence,
            "probabilities": [{"label": label, "probability": probability} for label, probability in pairs],
            "output": network.output,
            "layers": [_layer(node) for node in network.nodes],
        }

    def trace(self, fields: Fields) -> dict[str, Any]:
        """One activation's products, and what it depends on in every map before it."""
        picture = self.picture(fields)
        network = self.network(picture)
        answer = self.classifier.predict([picture.pixels_CHW])[0].label
        layer, unit = place_of(fields)
        if layer is None or unit is None:
            layer, unit = network.output, (self.classifier.classes.index(answer),)
        found = trace_executed(network, layer, unit)
        largest = sorted(range(len(found.terms)), key=lambda place: -abs(found.terms[place].product))[:MOST_TERMS]
        shown = [found.terms[place] for place in sorted(largest)]
        values = {"schema": 1, "answer": answer, **{name: to_json(getattr(found, name)) for name in found.__slots__ if name != "terms"}}
        return {
            **values,
            "terms": to_json(shown),
            "terms_left_out": len(found.terms) - len(shown),
            "left_out_sum": sum(term.product for term in found.terms) - sum(term.product for term in shown),
            "fields": {name: to_json(box) for name, box in self.fields(network, layer, unit).items()},
        }

    def fields(self, network: Network, layer: str, unit: tuple[int, ...]) -> dict[str, Box]:
        """For every map that a unit depends on, the rows and columns of it that it can depend on."""
        asked = layer_of(network, layer)
        index = np.array([unit_index(asked, layer, unit)])
        found: dict[str, Box] = {}
        for node in _before(network, asked):
            if len(node.shape) == 3:  # geometry is the same for every image, so that edges are kept
                edges = self._edges.get(node.name) or self._edges.setdefault(node.name, PixelEdges(network, node))
                [box] = boxes_at(edges.of(asked)[0], asked, index)
                if box.height:
                    found[node.name] = box
        return found

    def kernels(self, layer: str) -> dict[str, Any]:
        """The kernels of one convolution.

        Raises:
            Refused: the layer has none.
        """
        weights = dict(self.classifier.model.named_parameters())
        kernels, bias = weights.get(f"{layer}.weight"), weights.get(f"{layer}.bias")
        if kernels is None or kernels.ndim != 4:
            known = [name.removesuffix(".weight") for name, weight in weights.items() if weight.ndim == 4]
            raise Refused(404, f"There are no kernels in layer {layer!r}.", f"Layers with kernels: {', '.join(known) or 'none'}.")
        values = kernels.detach().cpu().numpy()
        return {"layer": layer, "shape": list(values.shape), "kernels": array(values), "bias": None if bias is None else bias.tolist()}

    def workbook(self, fields: Fields) -> bytes:
        """The network as an .xlsx file for an image; with a layer and a unit, what that unit depends on."""
        layer, unit = place_of(fields)
        network = self.network(self.picture(fields))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.xlsx"
            write_workbook(network, path, classes=self.classifier.classes, layer=layer, unit=unit)
            return path.read_bytes()

    def images(self, first: int, count: int, label: str | None, wrong: bool) -> dict[str, Any]:
        """Some of the validation images with what the network says of them.

        Args:
            first: of those that fit the filters, counted from 0.
            count: how many.
            label: only images of this class.
            wrong: only images that the network gets wrong; they are looked for until there are enough.
        """
        split, classes = self.split(), self.classifier.classes
        if label is not None and label not in classes:
            raise Refused(404, f"There is no class {label!r}.", f"Known are {', '.join(classes[:20])}.")
        of_class = None if label is None else classes.index(label)
        labels = split.labels_N.tolist()
        fitting = (index for index in range(len(split)) if of_class is None or labels[index] == of_class)
        if not wrong:
            places = list(fitting)
            chosen, total = places[first : first + count], len(places)
            predictions = self.classifier.predict([split.pixels(index) for index in chosen]) if chosen else []
        else:
            found: list[int] = []
            for index, prediction in self._predictions(split):
                if prediction.label != classes[labels[index]] and (of_class is None or labels[index] == of_class):
                    found.append(index)
                    if len(found) > first + count:  # one more tells that there are more
                        break
            chosen, total = found[first : first + count], len(found)
            predictions = [self._predicted[index] for index in chosen]
        return {
            "count": total,
            "images": [
                {
                    "index": index,
                    "label": classes[labels[index]],
                    "predicted": prediction.label,
                    "confidence": prediction.confidence,
                    "src": data_url(split.pixels(index)),
                }
                for index, prediction in zip(chosen, predictions, strict=True)
            ],
        }

    def _predictions(self, split: Split) -> Iterator[tuple[int, Prediction]]:
        for index in range(len(split)):
            if index == len(self._predicted):
                self._predicted += self.classifier.predict([split.pixels(i) for i in range(index, min(index + CHUNK, len(split)))])
            yield index, self._predicted[index]


class Networks:
    """The runs that were looked into last."""

    def __init__(self) -> None:
        self._subjects: Kept[tuple[str, int], Subject] = Kept(4)
        self._splits: Kept[tuple[Any, ...], Split] = Kept(2)

    def of(self, run: RunDir) -> Subject:
        """A run's network, loaded anew when its weights were written since.

        Raises:
            Refused: it has no weights yet.
            ConvscopeError: it cannot be loaded.
        """
        try:
            stamp = run.weights.stat().st_mtime_ns
        except OSError:
            raise Refused(409, f"{run.path.name} has no weights yet.", "They are written at the end of the first epoch.") from None
        return self._subjects.get((str(run.path), stamp), lambda: self._load(run))

    def _load(self, run: RunDir) -> Subject:
        classifier = load_classifier(run.path)
        return Subject(run.path.name, classifier, lambda: self._split(classifier))

    def _split(self, classifier: Classifier) -> Split:
        try:
            settings = TrainSettings.from_config(classifier.info.train)
        except TypeError:
            raise Refused(404, "This run does not say where its images came from.", "Draw an image or choose a file.") from None
        key = (settings.data, settings.image_size, settings.valid_pct, settings.seed)

        def load() -> Split:
            try:
                data = load_data(settings.data, 1, image_size=settings.image_size, valid_pct=settings.valid_pct, seed=settings.seed)
            except ConvscopeError as error:
                raise Refused(404, str(error), "Draw an image or choose a file.") from None
            return data.valid.split

        return self._splits.get(key, load)


def rehearse() -> None:
    """Trace a network once for nothing: what PyTorch imports only when it is first used costs a second, and no click should wait for it."""
    model = simple_cnn(channels=(2,)).eval()
    trace_executed(executed(model, torch.zeros(1, 28, 28), ((0.5,), (0.5,))), "0.0", (0, 0, 0))


def place_of(fields: Fields) -> tuple[str | None, tuple[int, ...] | None]:
    """The layer and unit that a request names; both None when it names none.

    Raises:
        Refused: they are of the wrong type, or only one is there.
    """
    layer, unit = fields.get("layer"), fields.get("unit")
    if layer is None and unit is None:
        return None, None
    if not isinstance(unit, list) or not 1 <= len(unit) <= 3:
        raise Refused(400, '"layer" and "unit" belong together.', 'Give a name and a list, such as "2.0" and [0, 2, 2].')
    numbers = dict(enumerate(unit))
    return text(fields, "layer", LONGEST_NAME), tuple(whole({"unit": numbers[i]}, "unit", -1, 2**31) for i in numbers)


def _before(network: Network, asked: Node) -> list[Node]:
    """The operations that one depends on, itself included."""
    by_name, found, waiting = network.by_name, set[str](), [asked.name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].inputs
    return [node for node in network.nodes if node.name in found]


def _layer(node: Node) -> dict[str, Any]:
    shape = node.shape
    values = node.values.reshape(shape)
    each = int(np.prod(shape[1:], dtype=np.int64))
    shown = min(shape[0], max(1, min(MOST_CHANNELS, MOST_NUMBERS // max(each, 1)))) if len(shape) == 3 else min(values.size, MOST_NUMBERS)
    kernels = node.weights.get("weight")
    return {
        "name": node.name,
        "kind": node.kind,
        "inputs": list(node.inputs),
        "shape": list(shape),
        "shown": shown,
        "maps": array(values[:shown] if len(shape) == 3 else values.reshape(-1)[:shown]),
        "kernels": list(kernels.shape) if kernels is not None and kernels.ndim == 4 else None,
    }
