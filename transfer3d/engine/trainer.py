"""The training loop: counts optimiser steps, saves whole states, stops cleanly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from timm.utils import ModelEmaV3
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from transfer3d.batch import ClipBatch
from transfer3d.engine.accumulation import mean_report, parts_of
from transfer3d.engine.batch_norm import renew_statistics, training_mode
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import any_process, lost_processes, mean_rows, on_main, same_buffers, wrap
from transfer3d.engine.memory_format import channels_last
from transfer3d.engine.optim import make_optimizer, set_learning_rate
from transfer3d.engine.out_of_memory import step_fits
from transfer3d.engine.parameter_groups import is_head
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.schedule import learning_rate, stale_validations
from transfer3d.engine.signals import StopSignals
from transfer3d.engine.state import pack_state, unpack_state
from transfer3d.engine.tracker import Tracker
from transfer3d.engine.window import Window
from transfer3d.errors import NonFiniteError, UsageError, WeightsError
from transfer3d.objectives.objective import LossReport, Objective
from transfer3d.progress import progress


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
        tracker: gets every line of the log too; None on every process but the main one.
        console: for progress.

    Raises:
        UsageError: the schedule or early stopping acts on validation scores, and there are none; or a name of
            `optimizer.lr_scale` is of no part of the network; or nothing learns, in the beginning or at all.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Callable[[int], Iterable[ClipBatch]],
        config: TrainerConfig,
        *,
        accelerator: Accelerator,
        folder: RunFolder | None,
        publish: Callable[[str, Mapping[str, Any]], None],
        validate: Callable[[], Mapping[str, float]] | None = None,
        identity: Mapping[str, str] | None = None,
        tracker: Tracker | None = None,
        console: Console | None = None,
    ) -> None:
        if config.needs_scores and validate is None:
            raise UsageError(
                "early_stop and a plateau schedule act on validation scores, and there are none: "
                "the task has none, or the data no val split. Hold videos out with val_share=0.1, or set "
                "early_stop=0 and another schedule.kind.",
            )
        self.identity = dict(identity or {})
        self.objective, self.batches, self.config = objective, batches, config
        self.accelerator, self.folder, self.publish, self.validate = accelerator, folder, publish, validate
        self.tracker, self.console = tracker, console or Console(stderr=True)
        module = objective.trainable.to(accelerator.device)
        channels_last(module)
        self.optimizer = make_optimizer(module, config.lr, config.optimizer)
        self._learners = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        if config.head_steps and not any(map(is_head, self._learners)):
            raise UsageError("head_first: the network has no head that learns. Set head_first=0.")
        average = config.optimizer.average
        self.average = None if average is None else ModelEmaV3(module, decay=average, use_warmup=True)
        self.step, self.lr, self.scores, self.metrics = 0, 0.0, list[float](), dict[str, float]()
        self._signals = StopSignals()

    @property
    def best(self) -> float:
        """The highest validation score so far."""
        return max(self.scores, default=-math.inf)

    @property
    def ended(self) -> bool:
        """Whether all steps are made, or early stopping made an end of them."""
        patience = self.config.early_stop
        return self.step >= self.config.steps or 0 < patience <= stale_validations(self.scores)

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
                raise UsageError(f"the run was started with another {' and '.join(changed)}. Take that one.")
            try:
                unpack_state(tensors, state, self.objective.trainable, self.optimizer, self.average)
                self.step, self.scores, self.metrics = state["step"], state["scores"], state["metrics"]
            except (RuntimeError, ValueError, KeyError) as error:
                reason = str(error).splitlines()[0]
                raise WeightsError(f"the checkpoint is of another network: {reason}") from error
            self._say_processes(state["processes"])
        if self.folder:
            self.folder.forget_after(self.step)

    def run(self) -> Mapping[str, float]:
        """Trains to the last step and returns the last metrics.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the step is not made and nothing is saved.
            Preempted: SIGTERM came; the step was finished and saved.
            Interrupted: Ctrl-C came; the step was finished and saved.
            SetupError: another process of the run was lost, or a step does not fit into memory.
        """
        config, window, stop = self.config, Window(), False
        title, quiet = f"training {config.steps} steps", not self.accelerator.is_main_process
        shown = progress(title, config.steps, console=self.console, quiet=quiet, start=self.step)
        with lost_processes(self.accelerator), step_fits(), self._signals, shown as bar:
            self._set_learners()
            for batch in window.awaiting(() if self.ended else self.batches(self.step)):
                report, stop = self._train_step(batch)
                window.add(report, len(batch.keys) * self.accelerator.num_processes)
                if self._is_due(config.log_every):
                    self._log("train", {"lr": self.lr, **mean_rows(self.accelerator, window.close())})
                bar.update(1, note=window.note)
                if self._is_due(config.validate_every):
                    self._validate()
                if stop or self.ended or self._is_due(config.save_every):
                    self._save()
                if stop or self.ended:
                    break
        if stop and not self.ended:
            raise self._signals.error(f"step {self.step} of {config.steps}")
        return self.metrics

    def _train_step(self, batch: ClipBatch) -> tuple[LossReport, bool]:
        """Rate, forward and backward for each part, optimiser; also says whether a signal asks to stop."""
        config, device = self.config, self.accelerator.device
        torch.manual_seed(hash((config.seed, self.step, self.accelerator.process_index)))
        if 0 < self.step == config.head_steps:
            self._set_learners()
        rate = learning_rate(self.step, config.steps, config.lr, config.schedule, self.scores)
        self.lr = rate * config.lr_factor
        set_learning_rate(self.optimizer, self.lr)
        parts, reports = parts_of(batch, config.accumulate), []
        for part in parts:
            more = part is not parts[-1]
            with self.accelerator.no_sync(self.wrapped) if more else nullcontext():
                with self.accelerator.autocast():
                    reports.append(self.objective.loss(self.wrapped, part.to(device)))
                self.accelerator.backward(reports[-1].total / len(parts))
        report = mean_report(reports)
        stop = self._check(batch, report.total)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.objective.trainable, self.step)
        return report, stop

    def _check(self, batch: ClipBatch, loss: torch.Tensor) -> bool:
        """Refuses a step that is not finite, clips the gradient; returns whether a process is to stop."""
        parameters = [p for p in self.objective.trainable.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm + loss.detach()))
        bad, stop = any_process(self.accelerator, not finite, self._signals.received != 0)
        if bad:
            raise NonFiniteError(
                f"step {self.step + 1}: loss {float(loss.detach()):.4g}, "
                f"gradient norm {float(norm):.4g} with clips {', '.join(batch.keys)}. "
                "Lower lr, or use --precision fp32; "
                "the last checkpoint is as it was.",
            )
        if limit := self.config.optimizer.clip_grad_norm:
            clip_grads_with_norm_(parameters, limit, norm)
        return stop

    def _is_due(self, every: int | None) -> bool:
        """Whether a step was just made after which something is to be done that is done every so often."""
        return self.step == self.config.steps or (every is not None and self.step % every == 0)

    def _set_learners(self) -> None:
        """Lets the parameters learn that are to learn in this step; DDP must hear of it anew."""
        module = self.objective.trainable
        everything = self.step >= self.config.head_steps
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in self._learners and (everything or is_head(name)))
        self.wrapped = wrap(self.accelerator, module, compiled=self.config.compile)
        training_mode(module, self.config.batch_norm)

    @contextmanager
    def _published(self) -> Iterator[None]:
        """Puts the weights in place that others get: averaged, with new statistics, if that is wanted."""
        module, count = self.objective.trainable, self.config.precise_batch_norm
        same_buffers(self.accelerator, module)
        kept = None
        if self.average is not None or count:
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        if self.average is not None:
            same_buffers(self.accelerator, self.average.module)
            module.load_state_dict(self.average.module.state_dict())
        if count:
            renew_statistics(self.objective, self._clips(count), self.accelerator)
        yield
        if kept is not None:
            module.load_state_dict(kept)
        training_mode(module, self.config.batch_norm)

    def _clips(self, count: int) -> Iterator[ClipBatch]:
        """Yields this process's share of the first `count` training clips, at least one batch."""
        for batch in self.batches(0):
            yield batch
            count -= len(batch.keys) * self.accelerator.num_processes
            if count <= 0:
                break

    def _validate(self) -> None:
        if self.validate is None:
            return
        with self._published():
            found = self.validate()
            is_best = found["score"] > self.best
            self.scores.append(found["score"])
            self._log("val", found)
            if is_best and self.accelerator.is_main_process:
                self.publish("best", self.metrics)

    def _log(self, split: str, row: Mapping[str, float]) -> None:
        self.metrics |= row
        if self.folder:
            self.folder.log({"step": self.step, "split": split, **row})
        if self.tracker:
            self.tracker.log({f"{split}/{name}": value for name, value in row.items()}, step=self.step)

    def _save(self) -> None:
        """Publishes the weights, then writes the checkpoint: what a checkpoint is of has been published."""
        with self._published():
            if self.accelerator.is_main_process:
                self.publish("model", self.metrics)
        self.accelerator.wait_for_everyone()
        if self.folder:
            tensors, state = pack_state(self.objective.trainable, self.optimizer, self.average)
            state |= {"step": self.step, "scores": self.scores, "metrics": self.metrics}
            state |= {"identity": self.identity, "processes": self.accelerator.num_processes}
            self.folder.save_checkpoint(self.step, tensors, state, keep=self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _say_processes(self, before: int) -> None:
        now = self.accelerator.num_processes
        if now != before and self.accelerator.is_main_process:
            self.console.print(
                f"the run had {before} processes, now {now}: every step has the same clips and rates, but "
                "BatchNorm and dropout see other parts of a batch, so the weights will differ a little",
                highlight=False,
                soft_wrap=True,
            )
