"""One of two processes of a run that goes on until it is told to stop; prints how it ended."""

import json
import sys
from pathlib import Path

import isr_jax
from isr_jax.config import CheckpointConfig, EvalConfig, ParallelConfig
from tests.small_run import small_config

folder, index, port = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
config = small_config(
    folder,
    parallel=ParallelConfig(num_processes=2, process_index=index, coordinator=f"localhost:{port}", devices=1),
    checkpoint=CheckpointConfig(every="0.5s"),
    eval=EvalConfig(log_every="0.1s"),
    steps=10**7,
    steps_per_call=5,
)
run = isr_jax.fit(config, folder / "run", quiet=True)
print(json.dumps({"state": run.state, "step": run.step, "reason": run.reason}))
