"""The loop that distillation and fine-tuning share: stop requests, learning rate, update, checkpoints, resume."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from simct.config import TrainingConfig
from simct.errors import RunError
from simct.evaluation.records import LOSS
from simct.training.checkpoints import (
    BestCheckpoint,
    best_checkpoint,
    checkpoint_trained_parameters,
    load_state,
    note_best,
    remove_old,
    save_checkpoint,
    save_state,
    trained_parameters,
)
from simct.training.optimizer import WeightAverage, build_optimizer
from simct.training.schedule import learning_rate_at
from simct.training.sharding import on_any_process, to_whole


class TrainingLoop:
    """Optimizer steps 1 to `training.steps` on a module that Accelerate prepares:

        for step in loop.steps(stop_requested):
            loss = ...  # forward and backward passes of loop.module
            grad_norm = loop.update(loss)
            record = loop.finish_step({"loss": loss, "rows": rows}, grad_norm)

    `rate_setting` is the setting of run.yaml that a run with a loss that is not finite should lower; `described` is
    that run.yaml, which every checkpoint keeps. `best_by` says which checkpoint is the best: by the lowest loss, or,
    for any other word, by the values given to `note_best`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: torch.nn.Module,
        training: TrainingConfig,
        checkpoints: Path,
        rate_setting: str = "training.learning_rate",
        described: str = "",
        best_by: str = LOSS,
    ):
        self.accelerator, self.training, self.checkpoints = accelerator, training, checkpoints
        self.rate_setting, self.described, self.best_by = rate_setting, described, best_by
        self.ended_early = False
        optimizer = build_optimizer(trained_parameters(module).values(), training)
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.parameters = list(trained_parameters(self.module).values())
        checkpoint_trained_parameters(accelerator)
        self.average = WeightAverage(self.parameters, training.ema_decay) if training.ema_decay else None
        if self.average:
            accelerator.register_for_checkpointing(self.average)
        self.step, self.learning_rate = 0, 0.0
        self._step_started = 0.0
        self._saved = -1  # the step of the last checkpoint written or loaded
        self._losses: list[float] = []  # since then

    def resume(self, checkpoint: Path | None) -> None:
        """Continue after the step of `checkpoint`; from the start if it is None."""
        if checkpoint is not None:
            self.step = load_state(self.accelerator, self.module, self.optimizer, self.average, checkpoint)
            self._saved = self.step

    def steps(self, stop_requested: Callable[[], bool]) -> Iterator[int]:
        """The steps that remain, until a stop is requested on any process; checkpoints in between and at the end."""
        while not self.done and not on_any_process(self.accelerator, stop_requested()):
            self.step += 1
            self._step_started = time.perf_counter()
            self.learning_rate = learning_rate_at(self.step, self.training)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            yield self.step
            if self.step % self.training.checkpoint_every == 0 and not self.done:
                self.checkpoint()
        if self._losses or not self.step:
            self.checkpoint()

    @property
    def done(self) -> bool:
        """Whether the last step was taken, or `ended_early` was set because the student no longer improves."""
        return self.ended_early or self.step >= self.training.steps

    def seconds(self) -> float:
        """Wall time since the step began."""
        return round(time.perf_counter() - self._step_started, 4)

    def update(self, loss: float) -> float:
        """Apply the accumulated gradient, clipped; returns its norm before clipping.

        Raises RunError, before anything is applied, when the loss or the norm is not finite.
        """
        grad_norm = float(to_whole(self.accelerator.clip_grad_norm_(self.parameters, self.training.max_grad_norm)))
        # under fp16, gradients overflow occasionally, and the scaler then skips the step
        if not (math.isfinite(loss) and (math.isfinite(grad_norm) or self.accelerator.scaler)):
            raise RunError(
                f"Step {self.step}: loss {loss}, gradient norm {grad_norm}. The run stopped before applying it; lower "
                f"{self.rate_setting} or use float32, and resume from the last checkpoint."
            )
        self.optimizer.step()
        return grad_norm

    def finish_step(self, record: dict[str, Any], grad_norm: float) -> dict[str, Any]:
        """End a step after its update; returns its record for metrics.jsonl. `record` has at least loss and rows."""
        if self.average and record["rows"]:
            self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._losses.append(record["loss"])
        return record | {
            "step": self.step,
            "learning_rate": self.learning_rate,
            "grad_norm": grad_norm,
            "seconds": self.seconds(),
        }

    def checkpoint(self) -> None:
        """Write checkpoints/step-N, unless it is there. To be called by all processes."""
        if self.step == self._saved:
            return

        def save(folder: Path) -> None:
            save_state(self.accelerator, self.module, self.optimizer, self.average, folder)

        save_checkpoint(self.accelerator, save, self.checkpoints, self.step, self.described)
        if self.best_by == LOSS and self._losses:
            self.note_best(sum(self._losses) / len(self._losses))
        if self.accelerator.is_main_process:
            remove_old(self.checkpoints, self.step, self.training.keep_checkpoints)
        self.accelerator.wait_for_everyone()
        self._saved = self.step
        self._losses.clear()

    def note_best(self, value: float, higher_is_better: bool = False, better: bool | None = None) -> None:
        """Compare this step's checkpoint, which has been written, with the best one so far. `better` as in
        simct.training.checkpoints.
        """
        if self.accelerator.is_main_process:
            note_best(self.checkpoints, self.step, self.best_by, value, higher_is_better, better)
        self.accelerator.wait_for_everyone()

    @property
    def best(self) -> BestCheckpoint | None:
        """The best checkpoint so far."""
        return best_checkpoint(self.checkpoints, self.best_by)

    def load_best(self) -> int:
        """Load the state of the best checkpoint into the module, if there is one; returns the step of the module's
        state.
        """
        best = self.best
        if best is None or best.step == self.step:
            return self.step
        return load_state(
            self.accelerator, self.module, self.optimizer, self.average, self.checkpoints / f"step-{best.step}"
        )
