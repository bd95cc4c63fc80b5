"""Settings of a training run: what `convscope train` takes, kept in config.json so that the run can be repeated and resumed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from convscope.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
ScheduleKind = Literal["one_cycle", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides how a run goes; None chooses by the data.

    Attributes:
        data: "mnist", a folder, or a CSV file of images or ratings.
        model: "simple_cnn", "small_resnet"; None takes simple_cnn for mnist, small_resnet for other images and dot_product
            for ratings.
        model_arguments: further arguments of the network.
        epochs: passes over the training images.
        batch_size: images a step; None takes 512, or fewer where an epoch would have less than 20 steps.
        lr: maximum rate of the schedule, or "auto" for the finder's.
        schedule: what the rate does: "one_cycle", "cosine" (falls) or "constant".
        seed: every random choice comes from it.
        image_size: pixels a side; None takes the data's.
        valid_pct: share held out where the data has no split of its own.
        augment: None takes off for mnist and on otherwise.
        class_weights: "auto" weighs each class by its rarity, "none" does not.
        strict: a file that cannot be read is an error.
        norm: whether the network has batch norms; None is each network's own way.
        init: how weights are drawn, such as "kaiming_normal"; None is each network's own way.
        init_from: a run directory or weights file to start from.
        freeze_body: with init_from, train the head only.
        device: "auto", "cpu", "cuda", "mps".
        precision: "fp32", "bf16", "fp16".
        deterministic: deterministic algorithms only.
        weight_decay, label_smoothing, clip_norm, accumulate: see Learner; a weight_decay of None is the task's own.
        watch: record every layer at every step, and diagnose.
        ignore: rules of the diagnosis to leave out.
        factors: of ratings, how many numbers describe a user or an item; None is the network's own way.
        split: of ratings, which are held out: "random" ones, or the latest by "time".
        y_range: of ratings, what predictions lie between; None takes the training ratings' ends and a tenth of their span more.
        titles: of ratings, a CSV with the columns item and title, or None.
    """

    data: str
    model: str | None = None
    model_arguments: dict[str, Any] | None = None
    epochs: int = 5
    batch_size: int | None = None
    lr: float | str = "auto"
    seed: int = 0
    image_size: int | None = None
    valid_pct: float = 0.2
    augment: bool | None = None
    class_weights: Literal["auto", "none"] = "none"
    strict: bool = False
    init: str | None = None
    init_from: str | None = None
    freeze_body: bool = False
    device: str = "auto"
    precision: Precision = "fp32"
    deterministic: bool = False
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    watch: bool = True
    ignore: tuple[str, ...] = ()
    schedule: ScheduleKind = "one_cycle"
    norm: bool | None = None
    factors: int | None = None
    split: Literal["random", "time"] = "random"
    y_range: tuple[float, float] | None = None
    titles: str | None = None

    def __post_init__(self) -> None:
        if self.lr != "auto" and not (isinstance(self.lr, float) and math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"--lr {self.lr} is no learning rate; give a number above 0, such as 0.1, or auto for the finder's.")
        if self.epochs < 1:
            raise UsageError(f"--epochs {self.epochs} is too few; give 1 or more.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size} is too small; give 1 or more, such as 64.")
        if not 0 < self.valid_pct < 1:
            raise UsageError(f"--valid-pct {self.valid_pct} is no share; give a number between 0 and 1, such as 0.2.")
        if self.class_weights not in ("auto", "none"):
            raise UsageError(f"--class-weights {self.class_weights} is unknown; give auto or none.")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"--precision {self.precision} is unknown; give fp32, bf16 or fp16.")
        if self.schedule not in get_args(ScheduleKind):
            raise UsageError(f"--schedule {self.schedule} is unknown; give one_cycle, cosine or constant.")

    def to_config(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrainSettings:
        """The settings kept in config.json; keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        kept: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items() if name in known}
        return cls(**kept)

    def command(self) -> list[str]:
        """The command line that repeats the run, defaults left out."""
        words = ["convscope", "train", self.data]
        flags = {"augment": ("--augment", "--no-augment"), "watch": ("--watch", "--no-watch"), "norm": ("--norm", "--no-norm")}
        for f in fields(self)[1:]:
            value, option = getattr(self, f.name), "--" + f.name.replace("_", "-")
            if value == f.default or f.name == "model_arguments":
                continue
            if f.name in flags:
                words.append(flags[f.name][0 if value else 1])
            elif f.name == "y_range":
                words += [option, f"{value[0]:g},{value[1]:g}"]
            elif f.name == "ignore":
                words += [word for rule in value for word in (option, rule)]
            elif value is True:
                words.append(option)
            else:
                words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
        return words
