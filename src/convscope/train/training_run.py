"""One run of training in its directory: from the first batch, or from a checkpoint, to the page."""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from convscope.diagnose import diagnose_log
from convscope.errors import ConvscopeError, InterruptedRun, NonFiniteError
from convscope.records import Verdict, to_json
from convscope.rundir import RunDir, this_process
from convscope.runlog import RunLog
from convscope.show.page import write_report
from convscope.train import results
from convscope.train.activation_stats import ActivationStats
from convscope.train.callbacks import KeepWeights, StopOnInterrupt
from convscope.train.checkpoint import Checkpointing, restore
from convscope.train.diagnosis import LiveDiagnosis
from convscope.train.heal import cure_of
from convscope.train.learner import Learner, Plan
from convscope.train.materials import Teller
from convscope.train.progress import ProgressReport, duration
from convscope.train.saving import describe_run, result_of
from convscope.train.schedules import Schedule
from convscope.train.settings import TrainSettings
from convscope.train.tasks import Data
from convscope.train.weights import WeightsInfo, save_weights

VERDICTS = {
    "healthy": "the diagnosis finds nothing wrong",
    "note": "the diagnosis has notes",
    "warning": "the diagnosis has warnings",
    "problem": "the diagnosis finds a problem",
    "too_early": "too few steps for a diagnosis",
}


class TrainingRun:
    """One run of training.

    Args:
        settings: how to train.
        run: where to.
        data: what on.
        model: the network, on the CPU.
        info: what the weights file says about itself.
        teller: who hears of it.
        resumed: go on from the run's checkpoint.
        healing: stop as soon as a problem is found that a change of settings may mend.

    Attributes:
        verdict: the diagnosis at the end; None before.
    """

    def __init__(
        self,
        settings: TrainSettings,
        run: RunDir,
        data: Data,
        model: nn.Module,
        info: WeightsInfo,
        teller: Teller,
        *,
        resumed: bool = False,
        healing: bool = False,
    ) -> None:
        self.settings, self.run, self.data, self.info, self.teller, self.resumed = settings, run, data, info, teller, resumed
        self.is_main = teller.processes.is_main
        self.started = time.monotonic()
        log = RunLog.create() if not self.is_main else RunLog.append_to(run.log) if resumed and run.log.exists() else RunLog.create(run.log)
        self.keep = KeepWeights(run.weights, info, "best" if data.test else "last")
        checkpoints = Checkpointing(run.checkpoint)
        self.interrupt = StopOnInterrupt(checkpoints.write, run.stop_request)
        self.verdict: Verdict | None = None
        self.diagnosis = LiveDiagnosis(teller.say, settings.ignore, stop=lambda verdict: healing and cure_of(verdict, settings) is not None)
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
        self.run.stop_request.unlink(missing_ok=True)  # of an earlier attempt
        try:
            plan = self._resume() if self.resumed else self._start()
            try:
                learner.fit_plan(plan)
            except NonFiniteError as error:
                self.verdict = self.diagnosis.look(learner)
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
            return self._stopped() if self.diagnosis.stopped else self._finish()
        finally:
            learner.log.close()
            self.run.stop_request.unlink(missing_ok=True)

    def _start(self) -> Plan:
        if self.is_main:
            self._write_config()
            self.learner.task.keep_data(self.run)
            self.run.keep(self.learner.summary())
        if self.settings.lr == "auto":
            self.teller.say("looking for a learning rate: up to 100 steps with a growing one")
            lr = self.learner.lr_find().suggestion
            self.teller.say(f"learning rate {lr:.2g}, suggested by the finder; --lr sets another")
        else:
            lr = float(self.settings.lr)
        self.config["train"].update(lr=lr, lr_source="finder" if self.settings.lr == "auto" else "given")
        self._write_config()
        return Plan(self.settings.epochs, Schedule(self.settings.schedule, lr), 0, 0)

    def _resume(self) -> Plan:
        plan = restore(self.learner, self.run.checkpoint)
        self.learner.log.drop_after(self.learner.step)
        self.teller.say(f"resuming {self.run.path} at epoch {self.learner.epoch + 1} of {plan.epochs}, step {self.learner.step}")
        self.config.update(status="running", message=None, process=this_process())
        self._write_config()
        return plan

    def _stopped(self) -> dict[str, Any]:
        self.verdict = diagnose_log(self.learner.log, ignore=self.settings.ignore)
        self._end("interrupted", f"Stopped at step {self.learner.step} to be healed.", keep_weights=True)
        return {
            "run": str(self.run.path),
            "steps": self.learner.step,
            "verdict": self.verdict.verdict,
            "findings": to_json(self.verdict.findings),
        }

    def _finish(self) -> dict[str, Any]:
        learner = self.learner
        self.keep.put_back(learner)
        judged = learner.task.judge(learner)
        seconds = self.config.get("seconds", 0.0) + time.monotonic() - self.started
        self.verdict = verdict = self.diagnosis.look(learner)
        self.config["result"] = {**result_of(learner, judged, seconds), "verdict": verdict.verdict}
        if self.is_main:
            judged.keep(self.run)
            self._end("finished")
        said = VERDICTS[verdict.verdict] + ("" if self.settings.watch else ", from its losses alone")
        self.teller.say(f"{judged.said}, in {duration(seconds)}; {said}; the page is {self.run.report}")
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
        config["process"] = this_process()
        config["data"]["valid_pct"] = settings.valid_pct
        config["train"].update(epochs=settings.epochs, schedule=settings.schedule, weights_kept=self.keep.select)
        return config
