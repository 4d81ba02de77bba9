"""The training loop: counts optimiser steps, saves whole states, stops cleanly."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from transfer3d.data.pipeline import Batch
from transfer3d.engine.distributed import any_process, on_main, same_buffers
from transfer3d.engine.memory_format import channels_last
from transfer3d.engine.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.state import pack_state, unpack_state
from transfer3d.errors import (
    Interrupted,
    NonFiniteError,
    Preempted,
    Transfer3dError,
    UsageError,
    WeightsError,
)
from transfer3d.progress import progress
from transfer3d.transfer.objective import LossReport, Objective


class TrainerConfig(BaseModel):
    """The facts of a training run that do not depend on its data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    """Optimiser steps of the whole run."""
    lr: float = Field(gt=0)
    seed: int = 0
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; none = only after the last step."""
    keep_checkpoints: int = Field(default=2, ge=2)
    """At least 2: the last one may be the one that was being written when the lights went out."""


class Trainer:
    """Trains an objective on batches.

    Everything random in step n follows from (seed, n, rank): a resumed run needs no saved generator.

    Args:
        objective: what learns, and its loss.
        batches: called with the first step that is wanted, gives this process's share of each global batch.
        config: steps, rates and intervals.
        accelerator: device, precision and processes.
        folder: where logs and checkpoints go; None on every process but the main one.
        publish: writes the weights for others; called as publish("model" or "best", metrics), main process.
        validate: called on all processes, gives metrics; its `score` (higher is better) chooses the best.
        identity: what must be the same when the run is resumed (digests of data and teacher), by name.
        console: for progress.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Callable[[int], Iterable[Batch]],
        config: TrainerConfig,
        *,
        accelerator: Accelerator,
        folder: RunFolder | None,
        publish: Callable[[str, Mapping[str, Any]], None],
        validate: Callable[[], Mapping[str, float]] | None = None,
        identity: Mapping[str, str] | None = None,
        console: Console | None = None,
    ) -> None:
        self.identity = dict(identity or {})
        self.objective, self.batches, self.config = objective, batches, config
        self.accelerator, self.folder, self.publish, self.validate = accelerator, folder, publish, validate
        self.console = console or Console(stderr=True)
        channels_last(objective.trainable.to(accelerator.device))
        optimizer = make_optimizer(objective.trainable, config.lr, config.optimizer)
        self.schedule = make_schedule(optimizer, config.steps, config.schedule)
        self.wrapped, self.optimizer = accelerator.prepare(objective.trainable, optimizer)
        self.step, self.best, self.metrics = 0, -math.inf, dict[str, float]()
        self._stop_signal = 0

    def resume(self) -> None:
        """Goes back to the newest whole checkpoint of the folder; without one, training starts at step 0.

        Raises:
            UsageError: the run was started on other data or with another teacher.
            WeightsError: no checkpoint is whole, or it belongs to another network.
        """
        found = on_main(self.accelerator, lambda: self.folder.load_checkpoint() if self.folder else None)
        if found is not None:
            tensors, state, damaged = found
            for name in damaged:
                self.console.print(f"checkpoint {name} is damaged and passed over", highlight=False)
            if changed := [
                name for name, digest in self.identity.items() if state["identity"][name] != digest
            ]:
                raise UsageError(
                    "E230", f"the run was started with another {' and '.join(changed)}. Take that one."
                )
            try:
                unpack_state(tensors, state, self.objective.trainable, self.optimizer)
            except (RuntimeError, ValueError, KeyError) as error:
                reason = str(error).splitlines()[0]
                raise WeightsError("E430", f"the checkpoint is of another network: {reason}") from error
            self.step, self.best, self.metrics = state["step"], state["best"], state["metrics"]
        if self.folder:
            self.folder.forget_after(self.step)

    def run(self) -> Mapping[str, float]:
        """Trains to the last step and returns the last metrics.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the step is not made and nothing is saved.
            Preempted: SIGTERM came; the step was finished and saved.
            Interrupted: Ctrl-C came; the step was finished and saved.
        """
        config, window = self.config, _Window()
        title, quiet = f"training {config.steps} steps", not self.accelerator.is_main_process
        shown = progress(title, config.steps, console=self.console, quiet=quiet, start=self.step)
        with _signals(self._note_signal), shown as bar:
            for batch in self.batches(self.step) if self.step < config.steps else ():
                report = self._train_step(batch)
                window.add(report, len(batch.keys) * self.accelerator.num_processes)
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    self._log(window)
                bar.update(1, note=window.note)
                if last or (config.validate_every and self.step % config.validate_every == 0):
                    self._validate()
                stop = any_process(self.accelerator, self._stop_signal != 0)
                if last or stop or self.step % config.save_every == 0:
                    self._save()
                if last or stop:
                    break
        if self.step < config.steps:
            self._raise_stopped()
        return self.metrics

    def _train_step(self, batch: Batch) -> LossReport:
        """Forward, backward, optimiser, schedule."""
        torch.manual_seed(hash((self.config.seed, self.step, self.accelerator.process_index)))
        self.schedule.step_update(self.step)
        self.wrapped.train()
        device = self.accelerator.device
        moved = batch.to(device)
        with self.accelerator.autocast():
            report = self.objective.loss(self.wrapped, moved)
        self.accelerator.backward(report.total)
        limit = self.config.optimizer.clip_grad_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.objective.trainable.parameters(), limit)
        finite = torch.isfinite(report.total.detach()) & torch.isfinite(torch.as_tensor(norm))
        if any_process(self.accelerator, not bool(finite)):
            raise NonFiniteError(
                "E600",
                f"step {self.step + 1}: loss {float(report.total.detach()):.4g}, "
                f"gradient norm {float(norm or 0):.4g} with clips {', '.join(batch.keys[:4])}. "
                "Lower lr, or use --precision fp32; "
                "the last checkpoint is as it was.",
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return report

    def _log(self, window: _Window) -> None:
        row = window.close()
        self.metrics = {**self.metrics, **row}
        if self.folder:
            lr = self.optimizer.param_groups[0]["lr"]
            self.folder.log({"step": self.step, "split": "train", "lr": lr, **row})

    def _validate(self) -> None:
        if self.validate is None:
            return
        same_buffers(self.accelerator, self.objective.trainable)
        found = self.validate()
        self.metrics = {**self.metrics, **found}
        if self.folder:
            self.folder.log({"step": self.step, "split": "val", **found})
        if found["score"] > self.best:
            self.best = found["score"]
            if self.accelerator.is_main_process:
                self.publish("best", self.metrics)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.folder:
            state = {"step": self.step, "best": self.best, "metrics": self.metrics, "identity": self.identity}
            tensors, optimizer_state = pack_state(self.objective.trainable, self.optimizer)
            keep = self.config.keep_checkpoints
            self.folder.save_checkpoint(self.step, tensors, {**state, **optimizer_state}, keep=keep)
            self.publish("model", self.metrics)
        self.accelerator.wait_for_everyone()

    def _note_signal(self, number: int) -> None:
        self._stop_signal = number

    def _raise_stopped(self) -> None:
        kind: type[Transfer3dError] = Interrupted if self._stop_signal == signal.SIGINT else Preempted
        where = f"step {self.step} of {self.config.steps}"
        raise kind("E700", f"stopped at {where}, which is saved. The same command with --resume goes on.")


class _Window:
    """Means of what was reported since the last log line; reading the values is left to that moment."""

    def __init__(self) -> None:
        self.note = ""
        self._reports: list[dict[str, torch.Tensor]] = []
        self._clips, self._started = 0, time.monotonic()

    def add(self, report: LossReport, clips: int) -> None:
        self._reports.append(report.parts)
        self._clips += clips

    def close(self) -> dict[str, float]:
        names = dict.fromkeys(name for parts in self._reports for name in parts)
        means = {
            name: float(torch.stack([parts[name].float() for parts in self._reports if name in parts]).mean())
            for name in names
        }
        self.note = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        means["clips_per_second"] = round(self._clips / (time.monotonic() - self._started), 2)
        self._reports, self._clips, self._started = [], 0, time.monotonic()
        return means


@contextmanager
def _signals(note: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM and SIGINT are noted, and obeyed after the step."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, lambda received, _frame: note(received))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
