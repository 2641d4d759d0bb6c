# %% [markdown]
# # Training and watching
#
# `isr_jax.fit(config, folder)` trains, or goes on with what is in the folder; `isr-jax train CONFIG.py --workdir RUN` is
# the same from a shell. This page trains a small network on a few photographs, watches it, stops it, lets a finished
# model branch off, and resumes it.
#
# ## Photographs to train on, and others to judge by

# %%
from pathlib import Path

import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

train = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), skimage.data.coffee(), skimage.data.rocket()]
validation = {"astronaut": skimage.data.astronaut()[:256, 100:356], "chelsea": skimage.data.chelsea()[:240, 80:400]}
for folder in ("photos", "validation/HR"):
    Path(folder).mkdir(parents=True)
for i, photo in enumerate(train):
    Image.fromarray(photo).save(f"photos/{i}.png")
for name, photo in validation.items():
    Image.fromarray(photo).save(f"validation/HR/{name}.png")

# %% [markdown]
# ## A configuration
#
# is frozen dataclasses that check themselves; a wrong field is one line that names it and the remedy. A file with
# `CONFIG = TrainConfig(...)` is what `isr-jax train` takes. The schedule `wsd` keeps the learning rate constant until its
# last steps: for a run whose length is not known yet.

# %%
from isr_jax.config import (
    CheckpointConfig,
    ConfigError,
    DataConfig,
    ERDConfig,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

config = TrainConfig(
    model=ModelConfig(
        scale=2,
        num_stages=1,
        physics="bicubic",
        learned_step=True,
        final_data_step=True,
        extrapolation=False,
        projection=False,
        clip=False,
        prior=ERDConfig(
            features=24,
            num_blocks=4,
            feedback_steps=0,
            kernel_size=3,
            border="zero",
            weight_norm=False,
            first_shortcut=True,
            resolution="lr",
        ),
    ),
    data=DataConfig(
        train=("photos",), cache_dir="cache", placement="memory", patch_size=24, batch_size=8, candidates=2
    ),
    optimizer=OptimizerConfig(kind="muon", clip_norm=0.1, ema_decay=0.98),
    schedule=ScheduleConfig(kind="wsd", learning_rate=2e-3, warmup_steps=20, decay_steps=150),
    checkpoint=CheckpointConfig(every=100),
    eval=EvalConfig(data=("validation",), every=100, log_every=20),
    steps=600,
)
try:
    ModelConfig(channels=4)
except ConfigError as error:
    print(error)

# %% [markdown]
# ## Training, and watching from Python
#
# The callback sees every record. Here it also presses Ctrl-C, after 250 steps:

# %%
import signal

import isr_jax


def watch(step, numbers):
    if "validation/psnr_y" in numbers:
        print(f"step {step}: {numbers['validation/psnr_y']:.2f} dB")
    if step == 260:
        signal.raise_signal(signal.SIGINT)


run = isr_jax.fit(config, "run", callback=watch, quiet=True)
run.state, run.step, run.reason

# %% [markdown]
# ## A model branches off
#
# The run's rate stays high until its last 150 steps, and it may go on for as long as one likes: `--steps` can be raised.
# Whoever wants a finished model now takes a branch, whose rate falls, in a folder of its own. The run itself is untouched.

# %% language="bash"
# isr-jax decay run --output branch --steps 100
# isr-jax evaluate --model run branch --data validation

# %% [markdown]
# ## Resuming
#
# is the same call. The run goes on from its last checkpoint and ends in the bytes of one that was never stopped; a run
# that was killed loses what it did since the last save, no more.

# %%
run = isr_jax.fit(config, "run", quiet=True)
print(run.state, run.step, f"{run.best:.2f} dB")

# %% [markdown]
# ## The run folder

# %% language="bash"
# ls run
# tail -n 1 run/metrics.jsonl
# isr-jax plot run --output curves.png

# %% tags=["hide-input"] alt="Curves of the run: validation PSNR beside bicubic, the loss, the time of a step"
Image.open("curves.png")

# %% [markdown]
# The same curves are in TensorBoard (`tensorboard --logdir run`). `isr-jax train --follow run` shows a run that another
# process trains; `isr-jax info run` tells what it is.
#
# `isr-jax pack-run run -o run.tar` takes all along from which it goes on, to another machine. More of this is in
# [Train](../how-to/train.md). Next: [what unrolling buys](stages.md).
