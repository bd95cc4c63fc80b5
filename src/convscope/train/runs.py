"""Whole runs: settings in, a run directory with weights, log, results and page out. `convscope train` and the lab call nothing else.

A run can be resumed because everything that decides it is in config.json and everything that it has done is in the checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from convscope.arithmetic import summary
from convscope.data import DataLoaders, load_data
from convscope.errors import ConvscopeError, NonFiniteError, RunError, UsageError
from convscope.nn import build, start_from
from convscope.records import to_json
from convscope.rundir import RunDir, create_run, open_run
from convscope.runlog import RunLog
from convscope.seeds import derive
from convscope.show.page import write_report
from convscope.train import results
from convscope.train.activation_stats import ActivationStats
from convscope.train.callbacks import KeepWeights, StopOnInterrupt
from convscope.train.checkpoint import Checkpointing, has_checkpoint, restore
from convscope.train.diagnosis import LiveDiagnosis
from convscope.train.evaluate import evaluate
from convscope.train.finder import LRFind
from convscope.train.learner import Learner, Plan
from convscope.train.predict import weights_path
from convscope.train.processes import Processes, join
from convscope.train.progress import ProgressReport, duration
from convscope.train.saving import describe_run, result_of
from convscope.train.schedules import Schedule
from convscope.train.settings import TrainSettings
from convscope.train.weights import WeightsInfo, describe_weights, load_weights, save_weights

VERDICTS = {
    "healthy": "the diagnosis finds nothing wrong",
    "note": "the diagnosis has notes",
    "warning": "the diagnosis has warnings",
    "problem": "the diagnosis finds a problem",
    "too_early": "too few steps for a diagnosis",
}


class InterruptedRun(ConvscopeError):
    """Training was interrupted by the user; the message says how to go on (exit code 130)."""


def train_run(settings: TrainSettings, out: str | Path = "runs", name: str | None = None, console: Console | None = None) -> dict[str, Any]:
    """Train from nothing to a page.

    Args:
        settings: what to train on, and how.
        out: the folder that holds runs.
        name: the run's name; None counts up from the data's name.
        console: where progress goes; stderr unless given.

    Returns:
        The object that `convscope train --json` prints.

    Raises:
        DataError: the data cannot be used; nothing has been written then.
        UsageError: a setting is out of range.
        RunError: the run directory cannot be written.
        NonFiniteError: the loss became NaN or infinite; the last good weights are saved.
        InterruptedRun: Ctrl-C; everything is saved.
    """
    teller = Teller(console, processes := join(settings.device))
    data, model, info = _materials(settings, teller)
    run = processes.share(create_run(out, name, data.name) if processes.is_main else None)
    assert run is not None
    return TrainingRun(settings, run, data, model, info, teller, resumed=False).go()


def resume_run(path: str | Path, console: Console | None = None) -> dict[str, Any]:
    """Go on with a run where its last checkpoint is, in place and with its own settings.

    A finished run returns its result at once; a run without a checkpoint starts over and says so.

    Raises:
        RunError: there is no such run, or it was no training.
        CheckpointError: the checkpoint is damaged.
        (And all that `train_run` raises.)
    """
    run = open_run(path)
    run = RunDir(run.path.resolve())
    config = run.read_config()
    if config.get("command") != "train" or "settings" not in config:
        raise RunError(f"{run.path} is no training run, so it cannot be resumed. Give a run directory that `convscope train` made.")
    settings = TrainSettings.from_config(config["settings"])
    teller = Teller(console, join(settings.device))
    if config.get("status") == "finished":
        teller.say(f"{run.path} is finished already; this is its result. To train again, leave out --resume.")
        with RunLog.read(run.log) as log:
            return {"run": str(run.path), **config["result"], "findings": to_json(log.findings())}
    if not has_checkpoint(run.checkpoint):
        teller.say(f"{run.path} has no checkpoint yet, so it starts over.")
    data, model, info = _materials(settings, teller)
    return TrainingRun(settings, run, data, model, info, teller, resumed=has_checkpoint(run.checkpoint)).go()


def find_rate(settings: TrainSettings, console: Console | None = None) -> LRFind:
    """What the learning-rate finder says about data and a fresh network; nothing is written."""
    data, model, _ = _materials(settings, Teller(console, join(settings.device)))
    return Learner(data, model, seed=settings.seed, device=settings.device).lr_find()


class Teller:
    """Says things on stderr, once however many processes there are.

    Args:
        console: where to; stderr unless given.
        processes: only the main one speaks.
    """

    def __init__(self, console: Console | None, processes: Processes) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.processes = processes

    def say(self, line: str) -> None:
        """One line, as it is."""
        if self.processes.is_main:
            self.console.print(line, markup=False, soft_wrap=True)


def _materials(settings: TrainSettings, teller: Teller) -> tuple[DataLoaders, nn.Module, WeightsInfo]:
    """The data, and a network for it that is initialised from the seed or from another run."""
    data = load_data(
        settings.data,
        settings.batch_size,
        image_size=settings.image_size,
        valid_pct=settings.valid_pct,
        augment=settings.augment,
        seed=settings.seed,
        strict=settings.strict,
        class_weights=settings.class_weights,
    )
    teller.say(repr(data))
    for note in data.summary.notes:
        teller.say(f"  note: {note}")
    skipped = data.summary.skipped
    if skipped:
        many = f"{len(skipped)} files were" if len(skipped) > 1 else "1 file was"
        more = ", and others; skipped_files.csv has them all" if len(skipped) > 1 else ""
        teller.say(f"  note: {many} left out: {skipped[0].path} ({skipped[0].reason}){more}")
    if settings.freeze_body and not settings.init_from:
        raise UsageError("--freeze-body needs --init-from: a body that was never trained is not worth freezing.")
    name = settings.model or ("simple_cnn" if data.kind == "mnist" else "small_resnet")
    arguments = dict(settings.model_arguments or {})
    channels, height, width = data.preprocess.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(settings.seed, "initial weights"))
        model = build(name, channels, len(data.classes), min(height, width), **arguments)
    if settings.init_from:
        start_from(model, load_weights(weights_path(settings.init_from))[0], freeze_body=settings.freeze_body)
    return data, model, describe_weights(model, data, settings.to_config())


class TrainingRun:
    """One run of training in its directory, from the first batch or from a checkpoint to the page."""

    def __init__(
        self,
        settings: TrainSettings,
        run: RunDir,
        data: DataLoaders,
        model: nn.Module,
        info: WeightsInfo,
        teller: Teller,
        *,
        resumed: bool,
    ) -> None:
        self.settings, self.run, self.data, self.info, self.teller, self.resumed = settings, run, data, info, teller, resumed
        self.is_main = teller.processes.is_main
        self.started = time.monotonic()
        log = RunLog.create() if not self.is_main else RunLog.append_to(run.log) if resumed and run.log.exists() else RunLog.create(run.log)
        self.keep = KeepWeights(run.weights, info, "best" if data.test else "last")
        checkpoints = Checkpointing(run.checkpoint)
        self.interrupt = StopOnInterrupt(checkpoints.write)
        self.diagnosis = LiveDiagnosis(teller.say, settings.ignore)
        watching = [ActivationStats(), self.diagnosis] if settings.watch else []
        self.learner = Learner(
            data,
            model,
            callbacks=[*watching, self.keep, ProgressReport(teller.console), checkpoints, self.interrupt],
            seed=settings.seed,
            device=settings.device,
            precision=settings.precision,
            weight_decay=settings.weight_decay,
            label_smoothing=settings.label_smoothing,
            clip_norm=settings.clip_norm,
            accumulate=settings.accumulate,
            deterministic=settings.deterministic,
            log=log,
        )
        self.config = run.read_config() if resumed else self._first_config()

    def go(self) -> dict[str, Any]:
        """Train, evaluate and write everything; returns the object that `convscope train --json` prints."""
        learner = self.learner
        try:
            plan = self._resume() if self.resumed else self._start()
            try:
                learner.fit_plan(plan)
            except NonFiniteError as error:
                self._end("failed", str(error), keep_weights=True)
                raise
            except ConvscopeError as error:
                self.config.update(status="failed", message=str(error))
                self._write_config()
                raise
            if self.interrupt.interrupted:
                steps = plan.epochs * learner.steps_per_epoch
                self._end("interrupted", f"Interrupted at step {learner.step} of {steps}.")
                again = f"convscope train --resume {self.run.path}"
                raise InterruptedRun(f"Interrupted at step {learner.step} of {steps}; everything is saved. To go on: {again}")
            return self._finish()
        finally:
            learner.log.close()

    def _start(self) -> Plan:
        if self.is_main:
            self._write_config()
            self.run.keep(self.data.summary)
            self.run.keep(summary(self.learner.model, self.data.preprocess.shape))
            results.write_skipped(self.run.skipped, self.data.summary.skipped)
        if self.settings.lr == "auto":
            lr = self.learner.lr_find().suggestion
            self.teller.say(f"learning rate {lr:.2g}, suggested by the finder (--lr sets another)")
        else:
            lr = float(self.settings.lr)
        self.config["train"].update(lr=lr, lr_source="finder" if self.settings.lr == "auto" else "given")
        self._write_config()
        return Plan(self.settings.epochs, Schedule("one_cycle", lr), 0, 0)

    def _resume(self) -> Plan:
        plan = restore(self.learner, self.run.checkpoint)
        self.learner.log.drop_after(self.learner.step)
        self.teller.say(f"resuming {self.run.path} at epoch {self.learner.epoch + 1} of {plan.epochs}, step {self.learner.step}")
        self.config.update(status="running", message=None)
        self._write_config()
        return plan

    def _finish(self) -> dict[str, Any]:
        learner, data = self.learner, self.data
        self.keep.put_back(learner)
        valid = evaluate(learner, "valid")
        test = evaluate(learner, "test") if data.test else None
        seconds = self.config.get("seconds", 0.0) + time.monotonic() - self.started
        verdict = self.diagnosis.look(learner)
        self.config["result"] = {**result_of(learner, valid, test, seconds), "verdict": verdict.verdict}
        if self.is_main:
            self.run.keep(test or valid)
            self._end("finished")
        said = VERDICTS[verdict.verdict]
        images = f"{valid.accuracy:.4f} on {valid.count:,} validation images"
        tested = f", {test.accuracy:.4f} on {test.count:,} test images" if test else ""
        self.teller.say(f"accuracy {images}{tested}, in {duration(seconds)}; {said}; the page is {self.run.report}")
        return {"run": str(self.run.path), **self.config["result"], "findings": to_json(verdict.findings)}

    def _end(self, status: str, message: str | None = None, *, keep_weights: bool = False) -> None:
        if not self.is_main:
            return
        if keep_weights:
            save_weights(self.run.weights, self.learner.model, self.info)
        self.config.update(status=status, message=message, seconds=self.config.get("seconds", 0.0) + time.monotonic() - self.started)
        self._write_config()
        results.write_results(self.run.results, self.learner.recorder.epochs)
        self.learner.log.flush()
        write_report(self.run)

    def _write_config(self) -> None:
        if self.is_main:
            self.run.write_config(self.config)

    def _first_config(self) -> dict[str, Any]:
        settings, config = self.settings, describe_run(self.learner, self.run)
        config["argv"] = settings.command()
        config["settings"] = settings.to_config()
        config["data"]["valid_pct"] = settings.valid_pct
        config["train"].update(epochs=settings.epochs, schedule="one_cycle", weights_kept=self.keep.select)
        return config
