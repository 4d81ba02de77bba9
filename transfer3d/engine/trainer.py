"""The training loop: counts optimiser steps, saves the complete state, stops cleanly."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from transfer3d.batch import ClipBatch
from transfer3d.data.videoset import VideoSet
from transfer3d.engine.accumulation import backward_mean, backward_pairwise, split_batch
from transfer3d.engine.batch_norm import recompute_statistics, training_mode
from transfer3d.engine.batches import batches_for
from transfer3d.engine.config import TrainerConfig
from transfer3d.engine.distributed import (
    any_process,
    distribute,
    lost_processes,
    make_accelerator,
    mean_rows,
    on_main,
    resolve_precision,
    same_buffers,
    watched_processes,
)
from transfer3d.engine.metrics_window import MetricsWindow
from transfer3d.engine.network_options import apply_options, apply_to_batches
from transfer3d.engine.optim import make_optimizer, match_layout, set_learning_rate
from transfer3d.engine.out_of_memory import step_fits
from transfer3d.engine.parameter_groups import is_head
from transfer3d.engine.publishing import Publish, name_classes, publish_student
from transfer3d.engine.run_folder import RunFolder
from transfer3d.engine.schedule import learning_rate, stale_validations
from transfer3d.engine.signals import StopSignals
from transfer3d.engine.state import pack_state, read_state, unpack_state
from transfer3d.engine.tracker import Tracker
from transfer3d.errors import NonFiniteError, UsageError, WeightsError
from transfer3d.nn.memory_format import channels_last
from transfer3d.objectives.objective import LossReport, PairwiseObjective
from transfer3d.progress import progress

LOG_EVERY, FEWEST_POINTS = 20, 10
"""Default number of steps between log rows, and minimum number of rows of a short run."""

log = logging.getLogger(__name__)


class Trainer:
    """Trains an objective.

    All randomness in step n is seeded by (seed, n, rank): a resumed run needs no saved generator.

    Example:
        >>> config = TrainerConfig(steps=1000, batch_size=32, lr=0.01)
        >>> Trainer(Classification(student), videos, config, output_dir="runs/mine").run()

    Args:
        objective: a module whose `forward(batch)` returns a `LossReport`. Its attribute `student` is the
            `VideoStudent` that determines the clips and whose weights are published.
        data: videos; or a function that is called with the first step, and yields this process's share of
            each batch from that step on.
        config: length, rates and intervals.
        output_dir: the run folder, for logs, checkpoints and `model.safetensors`; None = nothing is written.
        resume: continue the unfinished run in `output_dir`.
        accelerator: device, precision and processes; by default one is created for `config.precision`.
        validate: called on all processes, returns metrics; `score` (higher is better) selects the best.
        publish: called on the main process as publish("model" or "best", metrics) to write the published
            weights; by default the student is saved in `output_dir`.
        identity: digests, by name, of further inputs that must not change when the run is resumed; the
            data's is included anyway.
        tracker: also receives every line of the log, on the main process.
        console: for progress; None = no progress is shown.

    Raises:
        UsageError: the schedule or early stopping needs validation scores, and there are none; a name in
            `optimizer.lr_scale` matches no parameter; no parameter is trained; `output_dir` contains another
            run; or `config.batch_size` is missing.
        SetupError: another process uses `output_dir`, or it cannot be written.
    """

    def __init__(
        self,
        objective: nn.Module,
        data: VideoSet | Callable[[int], Iterable[ClipBatch]],
        config: TrainerConfig,
        output_dir: str | Path | RunFolder | None = None,
        *,
        resume: bool = False,
        accelerator: Accelerator | None = None,
        validate: Callable[[], Mapping[str, float]] | None = None,
        publish: Publish | None = None,
        identity: Mapping[str, str] | None = None,
        tracker: Tracker | None = None,
        console: Console | None = None,
    ) -> None:
        if config.needs_scores and validate is None:
            raise UsageError(
                "early_stop and a plateau schedule need validation scores, and there are none: "
                "the task has none, or the data no val split. Hold videos out with --set val_share=0.1, or "
                "set early_stop=0 and another schedule.kind."
            )
        self.objective, self.config, self.validate = objective, config, validate
        self.tracker, self.console = tracker, console
        self._owns_processes = accelerator is None
        self.accelerator = accelerator or make_accelerator(resolve_precision(config.precision))
        self.identity, videos = dict(identity or {}), None
        if callable(data):
            self.batches = data
        else:
            videos = data
            name_classes(objective, videos)
            self.identity = {"data": videos.digest, **self.identity}
            self.batches = batches_for(objective, videos, config, self.accelerator)
        objective.to(self.accelerator.device)
        apply_options(objective, config)
        self.optimizer = make_optimizer(objective, config.lr, config.optimizer, config.gpu.fused_optimizer)
        self._learners = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
        if config.head_steps and not any(map(is_head, self._learners)):
            raise UsageError("head_first: the network has no trainable head. Set head_first=0.")
        decay = config.optimizer.average
        self.average = None if decay is None else ModelEmaV3(objective, decay=decay, use_warmup=True)
        self.step, self.lr, self.scores, self.metrics = 0, 0.0, list[float](), dict[str, float]()
        self._signals = StopSignals()
        self.folder = self._open_folder(output_dir, resume)
        self.publish = publish or partial(publish_student, objective, self.folder, videos)
        if resume:
            with self._closed_on_error(self.folder):
                self.resume()

    @property
    def best(self) -> float:
        """The highest validation score so far."""
        return max(self.scores, default=-math.inf)

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or early stopping ended the run."""
        patience = self.config.early_stop
        return self.step >= self.config.steps or 0 < patience <= stale_validations(self.scores)

    def _open_folder(self, output_dir: str | Path | RunFolder | None, resume: bool) -> RunFolder | None:
        """Opens the run folder on the main process; the caller closes a `RunFolder` that it passed in."""
        self._owns_folder = isinstance(output_dir, str | Path)
        if not isinstance(output_dir, str | Path):
            return output_dir
        path = Path(output_dir)
        claimed: list[RunFolder] = []

        def claim() -> None:
            claimed.append(RunFolder(path, resume=resume))
            with self._closed_on_error(claimed[0]):
                claimed[0].check_config(self.config)

        on_main(self.accelerator, claim)
        return claimed[0] if claimed else None

    @contextmanager
    def _closed_on_error(self, folder: RunFolder | None) -> Iterator[None]:
        """Releases the folder if the trainer cannot be built."""
        try:
            yield
        except BaseException:
            if folder and self._owns_folder:
                folder.close()
            raise

    def resume(self) -> None:
        """Restores the newest intact checkpoint of the folder; if there is none, training starts at step 0.

        Raises:
            UsageError: the run was started on other data or with another teacher.
            WeightsError: no checkpoint is intact, or the checkpoint belongs to another network.
        """
        loaded = on_main(self.accelerator, lambda: self.folder.load_checkpoint() if self.folder else None)
        if loaded is not None:
            tensors, noted, damaged = loaded
            for name in damaged if self.accelerator.is_main_process else ():
                log.warning("checkpoint %s is damaged and was skipped", name)
            try:
                state = read_state(noted, steps=self.config.steps)
                changed = [
                    name for name, digest in self.identity.items() if state.identity.get(name) != digest
                ]
                if not changed:
                    unpack_state(tensors, state, self.objective, self.optimizer, self.average)
            except (RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise WeightsError(f"the checkpoint belongs to another network or run: {reason}") from error
            if changed:
                raise UsageError(
                    f"the run was started with another {' and '.join(changed)}. Resume with the same."
                )
            self.step, self.scores, self.metrics = state.step, state.scores, state.metrics
            self._warn_of_other_processes(state.processes)
        if self.folder:
            self.folder.drop_log_after(self.step)

    def run(self) -> Mapping[str, float]:
        """Trains to the last step and returns the last metrics; leaves the objective in eval mode.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the step is not applied and nothing is saved.
            Preempted: stopped by SIGTERM, after finishing and saving the step.
            Interrupted: stopped by Ctrl-C, after finishing and saving the step.
            UsageError: the data ended before the last step.
            SetupError: another process of the run died, or a step does not fit into memory.
        """
        try:
            if self.folder and self._owns_folder:
                self.folder.write_config(self.config)
            with watched_processes(self.accelerator) if self._owns_processes else nullcontext():
                self._train()
            if self.folder:
                self.folder.finish({"steps": self.step, "metrics": dict(self.metrics)})
        finally:
            if self.folder and self._owns_folder:
                self.folder.close()
        return self.metrics

    def _train(self) -> None:
        config, window, stop = self.config, MetricsWindow(), False
        quiet = self.console is None or not self.accelerator.is_main_process
        console = self.console or Console(stderr=True)
        title = f"training {config.steps} steps"
        log_every = config.log_every or min(LOG_EVERY, max(config.steps // FEWEST_POINTS, 1))
        bar_context = progress(title, config.steps, console=console, quiet=quiet, start=self.step)
        layout, peers = channels_last(self.objective), lost_processes(self.accelerator)
        with layout, peers, step_fits(), self._signals, bar_context as bar:
            match_layout(self.optimizer)
            self._set_trainable()
            batches = () if self.ended else self.batches(self.step)
            batches = apply_to_batches(batches, config, self.accelerator.device)
            for batch in window.time_waiting(batches):
                report, stop = self._train_step(batch)
                window.add(report, len(batch) * self.accelerator.num_processes)
                if self._is_due(log_every):
                    self._log("train", {"lr": self.lr, **mean_rows(self.accelerator, window.flush())})
                bar.update(1, note=window.note)
                self._validate_and_save(stop)
                if stop or self.ended:
                    break
        self.objective.eval()
        if not stop and not self.ended:
            raise UsageError(
                f"the data ended after step {self.step} of {config.steps}. "
                "Make it yield batches up to the last step, or set fewer steps."
            )
        if stop and not self.ended:
            raise self._signals.error(f"step {self.step} of {config.steps}")

    def _train_step(self, batch: ClipBatch) -> tuple[LossReport, bool]:
        """Runs one optimiser step; also returns whether to stop because of a signal."""
        config = self.config
        torch.manual_seed(step_seed(config.seed, self.step, self.accelerator.process_index))
        if 0 < self.step == config.head_steps:
            self._set_trainable()
        rate = learning_rate(self.step, config.steps, config.lr, config.schedule, self.scores)
        self.lr = rate * config.lr_factor
        set_learning_rate(self.optimizer, self.lr)
        report = self._backward(batch)
        stop = self._check(batch, report.total)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.objective, self.step)
        return report, stop

    def _backward(self, batch: ClipBatch) -> LossReport:
        """Runs the forward and backward pass, in parts if gradients are accumulated."""
        parts = [part.to(self.accelerator.device) for part in split_batch(batch, self.config.accumulate)]
        contexts: dict[str, Any] = {
            "autocast": self.accelerator.autocast,
            "no_sync": getattr(self.wrapped, "no_sync", nullcontext),
        }
        if len(parts) > 1 and isinstance(self.objective, PairwiseObjective):
            return backward_pairwise(self.objective, self.wrapped, parts, **contexts)
        return backward_mean(self.wrapped, parts, **contexts)

    def _check(self, batch: ClipBatch, loss: torch.Tensor) -> bool:
        """Clips the gradient, raises if it is not finite; returns whether any process must stop."""
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm + loss.detach()))
        bad, stop = any_process(self.accelerator, not finite, self._signals.stop_requested())
        if bad:
            raise NonFiniteError(
                f"step {self.step + 1}: loss {float(loss.detach()):.4g}, "
                f"gradient norm {float(norm):.4g} with clips {', '.join(batch.keys)}. "
                "Lower lr, or use --precision fp32; the last checkpoint is unchanged."
            )
        if limit := self.config.optimizer.clip_grad_norm:
            clip_grads_with_norm_(parameters, limit, norm)
        return stop

    def _is_due(self, every: int | None) -> bool:
        """Whether an action with period `every` is due after this step; all are due after the last."""
        return self.step == self.config.steps or (every is not None and self.step % every == 0)

    def _set_trainable(self) -> None:
        """Freezes all but the head in the first `head_steps`, and wraps the objective for its processes."""
        everything = self.step >= self.config.head_steps
        for name, parameter in self.objective.named_parameters():
            parameter.requires_grad_(name in self._learners and (everything or is_head(name)))
        self.wrapped = distribute(self.accelerator, self.objective, self.config.gpu)
        training_mode(self.objective, self.config.batch_norm)

    @contextmanager
    def _published_weights(self) -> Iterator[None]:
        """Temporarily swaps in EMA weights and recomputed BatchNorm statistics, if configured."""
        module, count = self.objective, self.config.precise_batch_norm
        same_buffers(self.accelerator, module)
        kept = None
        if self.average is not None or count:
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        if self.average is not None:
            same_buffers(self.accelerator, self.average.module)
            module.load_state_dict(self.average.module.state_dict())
        if count:
            recompute_statistics(module, self._first_batches(count), self.accelerator)
        yield
        if kept is not None:
            module.load_state_dict(kept)
        training_mode(module, self.config.batch_norm)

    def _first_batches(self, count: int) -> Iterator[ClipBatch]:
        """Yields this process's share of the first `count` training clips, at least one batch."""
        for batch in self.batches(0):
            yield batch
            count -= len(batch) * self.accelerator.num_processes
            if count <= 0:
                break

    def _validate_and_save(self, stop: bool) -> None:
        """Runs what is due after this step; weights are published before the checkpoint is written."""
        validating = self.validate is not None and self._is_due(self.config.validate_every)
        saving = stop or self._is_due(self.config.save_every)
        if not validating and not saving:
            return
        with self._published_weights():
            if validating:
                self._validate()
            saving = saving or self.ended
            if saving and self.accelerator.is_main_process:
                self.publish("model", self.metrics)
        if saving:
            self._save()

    def _validate(self) -> None:
        assert self.validate is not None
        metrics = self.validate()
        is_best = metrics["score"] > self.best
        self.scores.append(metrics["score"])
        self._log("val", metrics)
        if is_best and self.accelerator.is_main_process:
            self.publish("best", self.metrics)

    def _log(self, split: str, row: Mapping[str, float]) -> None:
        self.metrics |= row
        if self.folder:
            self.folder.log({"step": self.step, "split": split, **row})
        if self.tracker:
            self.tracker.log({f"{split}/{name}": value for name, value in row.items()}, step=self.step)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.folder:
            tensors, state = pack_state(self.objective, self.optimizer, self.average)
            state |= {"step": self.step, "scores": self.scores, "metrics": self.metrics}
            state |= {"identity": self.identity, "processes": self.accelerator.num_processes}
            self.folder.save_checkpoint(self.step, tensors, state, keep=self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _warn_of_other_processes(self, before: int) -> None:
        now = self.accelerator.num_processes
        if now != before and self.accelerator.is_main_process:
            log.warning(
                "the run had %d processes, now %d: every step has the same clips and rates, but BatchNorm "
                "and dropout see other parts of a batch, so the weights will differ slightly", before, now,
            )  # fmt: skip


def step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of everything random that one process draws in one step, 0..2**63 - 1."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
