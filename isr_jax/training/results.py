"""What a run leaves in its folder as it goes on: records, evaluations, weights and checkpoints."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from isr_jax.config import TrainConfig
from isr_jax.models.model_file import save_model
from isr_jax.pictures.pairs import Pair
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.checkpoint import Checkpoints, newest_step
from isr_jax.training.clock import Pace
from isr_jax.training.evaluation import make_evaluation, stage_parameters
from isr_jax.training.parallel import to_host
from isr_jax.training.records import describe_evaluation
from isr_jax.training.run_folder import RunFolder, State
from isr_jax.training.state import TrainState, make_bind
from isr_jax.training.stopping import Reserve
from isr_jax.training.writers import Writers

Callback = Callable[[int, dict[str, float]], Any]
"""Called with the step and the numbers of each record."""


class Results:
    """Writes them, and times those that the end of a session waits for."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        model: ISRResCNet,
        validation: dict[str, list[Pair]],
        checkpoints: Checkpoints,
        writers: Writers | None,
        callback: Callback | None,
        *,
        total: int,
        best: float | None,
        state_bytes: int,
    ) -> None:
        """Takes up a run; `writers` are those of process 0, `best` is the best score so far."""
        self._config, self._folder, self._model, self._validation = config, folder, model, validation
        self._checkpoints, self._writers, self._callback, self._total = checkpoints, writers, callback, total
        self._evaluate = make_evaluation(model)
        self._save_is_timed = not config.max_minutes
        self._saving: int | None = None  # the step of a save that is under way
        self.reserve = Reserve(save=1 + state_bytes / 50e6, evaluation=folder.former.get("evaluation_seconds"))
        """What the end of this session needs of its time."""
        self.pace = Pace()
        self.best = best
        """Best validation PSNR of the whole run, dB."""
        self.measured: dict[str, float] = {}
        """The last validation of this session."""
        self.history: list[tuple[int, dict[str, float]]] = []
        """Step and numbers of each record of this session."""

    def say(self, message: str) -> None:
        """Shows a line."""
        if self._writers:
            self._writers.say(message)

    def advance(self, steps: int) -> None:
        """Shows that so many steps were made."""
        if self._writers:
            self._writers.advance(steps)

    def record(self, step: int, values: dict[str, float]) -> None:
        """Records numbers, of training or of validation."""
        self.history.append((step, values))
        if self._writers:
            self._writers.scalars(step, values)
            if "loss" in values:
                self._writers.show(loss=f"{values['loss']:.5f}")
            if self._callback:
                self._callback(step, dict(values))

    def evaluate(self, step: int, state: TrainState) -> float:
        """Measures the averaged weights, keeps them if they are the best, and returns the score that decides it."""
        begun = time.monotonic()
        pictures: dict[str, np.ndarray] = {}
        self.measured = self._evaluate(state.average, self._validation, pictures)
        score = self.measured[f"{next(iter(self._validation))}/psnr_y"]
        better = self.best is None or score > self.best
        self.best = score if better else self.best
        self.record(step, {**self.measured, **stage_parameters(state.average)})
        if self._writers:
            for name, picture in pictures.items():
                self._writers.picture(step, name, picture)
            self._writers.show(psnr=f"{score:.2f}")
            self.say(describe_evaluation(step, self.measured) or "")
            if better:
                self._save_average(state, "best.safetensors", score)
        self.reserve.evaluated(time.monotonic() - begun)
        return score

    def save(self, state: TrainState, score: float | None, failures: int) -> None:
        """Starts to save; `score` is that of this very state, `failures` is of `Recovery`."""
        begun = time.monotonic()
        if self._writers:  # first: a run that is killed in between, and resumed, comes by here again
            self._save_average(state, "model.safetensors", score)
        self._checkpoints.save(state, score=score, best=self.best, failures=failures)
        self.tell_saved()  # of the save before, for which this one has waited
        self._saving = int(state.step)
        if not self._save_is_timed:
            self.wait()
            self.reserve.save, self._save_is_timed = time.monotonic() - begun, True

    def wait(self) -> None:
        """Waits until all is on disk."""
        self._checkpoints.wait()
        self.tell_saved()

    def tell_saved(self) -> None:
        """Writes status.json once the last save is on disk; from then on a resume may change nothing again."""
        if self._saving is None or (newest_step(self._folder.path) or 0) < self._saving:
            return
        if self._config.checkpoint.allow_changes:  # up to here the newest checkpoint could be of the former ones
            strict = dataclasses.replace(self._config.checkpoint, allow_changes=False)
            self._folder.write_config(dataclasses.replace(self._config, checkpoint=strict))
        self.report("running", self._saving)
        self._saving = None

    def report(self, state: State, step: int, reason: str = "") -> None:
        """Writes status.json."""
        seconds = {
            "seconds_per_step": self.pace.seconds_per_step,
            "evaluation_seconds": self.reserve.first_evaluation,
        }
        self._folder.report(state, step, self._total, reason, seconds)

    def _save_average(self, state: TrainState, name: str, score: float | None) -> None:
        """Writes the averaged weights as a model file, beside and then renamed."""
        metadata: dict[str, Any] = {"step": int(state.step), "steps": self._config.steps, "seed": self._config.seed}
        if score is not None and math.isfinite(score):  # JSON has no infinity
            metadata["psnr_y"] = score
        save_model(self._folder.path / name, make_bind(self._model)(to_host(state.average)), metadata)
