"""What is done about steps that are not finite: they are explained, and the run stops or goes on (`on_nonfinite`)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from isr_jax.config import TrainConfig, UserError
from isr_jax.training.data import Batch
from isr_jax.training.forensics import write_bundle
from isr_jax.training.parallel import Parallel, to_host
from isr_jax.training.state import TrainState

MOST_IN_A_ROW = 10
"""So many steps in a row that are not finite end the run, whatever `on_nonfinite` says."""
_MOST_BUNDLES = 5
"""In a run folder; each holds a whole state."""


class Recovery:
    """Answers steps that are not finite; what it remembers is in every checkpoint, so that a resumed run agrees."""

    def __init__(self, config: TrainConfig, workdir: Path, parallel: Parallel, *, total_steps: int, failures: int):
        """Takes up a run; `failures` steps in a row were not finite before it was interrupted."""
        # Whoever reads the bundle has no data to count steps with.
        self._config = dataclasses.replace(config, steps=total_steps, epochs=0.0)
        self._workdir, self._parallel = workdir, parallel
        self.failures = failures
        """How many steps in a row were not finite, up to now."""

    def passed(self) -> None:
        """Notes a step that was finite."""
        self.failures = 0

    def failed(
        self, state: TrainState, batch: Callable[[], Batch], save: Callable[[TrainState], None]
    ) -> tuple[TrainState, dict[str, float], str]:
        """Explains the step that should have followed `state`, and goes on without it if the configuration says so.

        Args:
          state: Before the step, which has left it as it was.
          batch: Returns this process's part of the step's batch.
          save: Saves it.
        Returns: The state after the step's data, the numbers to record and the line to say of it.
        Raises:
          UserError: If the run ends here; `state` is saved.
        """
        step, policy = int(state.step) + 1, self._config.on_nonfinite
        bundle = self._workdir / f"nonfinite_{step}"
        ends = policy == "stop" or self.failures + 1 >= MOST_IN_A_ROW
        if ends:
            save(state)
        report = "see what process 0 says"
        if jax.process_index() == 0:
            report = self._explain(bundle, state, batch, always=ends)
        self.failures += 1
        if ends:
            row = f", as the {self.failures - 1} before it" if self.failures > 1 else ""
            raise UserError(
                f"step {step} is not finite{row}: {report}; isr-jax replay {bundle} repeats it; to go on, lower "
                "schedule.learning_rate (with checkpoint.allow_changes)"
                + (' or set on_nonfinite to "skip" or "lower_rate"' if policy == "stop" else "")
            )
        factor = np.float32(to_host(state.rate_factor))
        if policy == "lower_rate":
            factor = factor / np.float32(2)
        place = self._parallel.replicate
        state = dataclasses.replace(state, step=place(np.int32(step)), rate_factor=place(factor))
        lowered = f", the learning rate is {factor:g} of the schedule's" if policy == "lower_rate" else ""
        said = f"step {step} is not finite: {report}; its data are skipped{lowered}"
        return state, {"skipped": 1.0, "rate_factor": float(factor)}, said

    def _explain(self, bundle: Path, state: TrainState, batch: Callable[[], Batch], *, always: bool) -> str:
        """Writes the bundle, with the part of the batch that this process has, unless there are enough of them."""
        if not always and not bundle.exists() and len(list(self._workdir.glob("nonfinite_*"))) >= _MOST_BUNDLES:
            return f"no bundle beside the {_MOST_BUNDLES} in {self._workdir}"
        return write_bundle(bundle, self._config, to_host(state), batch())
