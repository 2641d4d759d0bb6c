# %% [markdown]
# # What unrolling buys
#
# Stages cost time. Do they pay, or is one deeper network as good? And what is it worth to know how a picture was blurred?
# Four small models, each trained for as many steps on the same patches, each with as many residual blocks in all:
#
# | model | stages | blocks a stage | told the blur |
# | --- | --- | --- | --- |
# | deep, told | 1 | 3 | yes |
# | unrolled, told | 3 | 1, shared | yes |
# | deep, not told | 1 | 3 | no |
# | unrolled, not told | 3 | 1, shared | no |
#
# Each patch is blurred by a Gaussian of its own, of 0.4 to 2.4 pixels, and every second pixel is kept. "Told" means that
# the data step of each stage uses the very $H$ that made the patch; "not told", that it takes every blur for none.

# %%
from pathlib import Path

import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

import isr_jax
from isr_jax.config import (
    DataConfig,
    DegradationConfig,
    ERDConfig,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

Path("photos").mkdir()
photos = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), skimage.data.coffee(), skimage.data.rocket()]
for i, photo in enumerate(photos):
    Image.fromarray(photo).save(f"photos/{i}.png")


def config(num_stages, num_blocks, told):
    return TrainConfig(
        model=ModelConfig(
            scale=2,
            num_stages=num_stages,
            physics="decimation",
            learned_step=True,
            extrapolation=False,
            projection=False,
            clip=False,
            prior=ERDConfig(
                features=24,
                num_blocks=num_blocks,
                feedback_steps=0,
                kernel_size=3,
                border="zero",
                weight_norm=False,
                first_shortcut=True,
                resolution="lr",
            ),
        ),
        data=DataConfig(
            train=("photos",),
            cache_dir="cache",
            placement="memory",
            patch_size=24,
            batch_size=8,
            degradation=DegradationConfig(
                gaussian=1.0,
                gaussian_std=(0.4, 2.4),
                anisotropic=False,
                kernel_size=15,
                told="physics" if told else "decimation",
            ),
        ),
        optimizer=OptimizerConfig(kind="muon", clip_norm=0.1, ema_decay=0.98),
        schedule=ScheduleConfig(kind="cosine", learning_rate=2e-3, warmup_steps=20),
        eval=EvalConfig(log_every=40),
        steps=120,
    )


shapes = {"deep": (1, 3), "unrolled": (3, 1)}
models = {}
for told in (True, False):
    for name, (num_stages, num_blocks) in shapes.items():
        label = f"{name}, {'told' if told else 'not told'}"
        run = isr_jax.fit(config(num_stages, num_blocks, told), f"runs/{label}", quiet=True)
        models[label] = isr_jax.load(run.workdir)
        print(f"{label:20} {run.seconds:5.1f} s")

# %% [markdown]
# ## On photographs they have not seen

# %%
import numpy as np

from isr_jax import Blur, Decimation
from isr_jax.physics.kernels import gaussian_kernel

truth = np.stack([skimage.data.astronaut()[:240, 100:340], skimage.data.chelsea()[:240, 80:320]]).astype(np.float32)


def psnr(x):
    error = np.mean((np.clip(x, 0, 255) - truth)[:, 8:-8, 8:-8] ** 2, axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


widths = np.array([0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
scores = {label: [] for label in models}
for width in widths:
    physics = Decimation(2) @ Blur(gaussian_kernel(float(width), radius=7), border="symmetric")
    y = np.clip(np.round(np.asarray(physics.apply(truth))), 0, 255)
    for label, model in models.items():
        known = {} if "not" in label else {"physics": physics}
        scores[label].append(psnr(np.asarray(model.upscale_batch(y, **known))))

# %% tags=["hide-input"] alt="PSNR of the four models against the width of the blur"
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
colours = {"deep": "tab:blue", "unrolled": "tab:red"}
for label, values in scores.items():
    axis.plot(
        widths, values, "--" if "not" in label else "-", color=colours[label.split(",")[0]], label=label, marker="."
    )
axis.set(xlabel="standard deviation of the blur, HR pixels", ylabel="PSNR, dB")
axis.legend()
axis.grid(alpha=0.3)

# %% [markdown]
# ## Stage by stage
#
# `all_stages=True` shows the estimate after every stage. The unrolled model that was told, at the widest blur:

# %%
from isr_jax.models.model_file import load_model

network = load_model("runs/unrolled, told")
stages = np.asarray(network(y, physics=physics, all_stages=True))
print("start", f"{psnr(np.asarray(physics.initial_estimate(y))):.2f} dB")
for k, x in enumerate(stages):
    print(f"stage {k + 1}: {psnr(x):.2f} dB")

# %% [markdown]
# ## What to take from it
#
# A prior has to learn what the data steps leave. Told the blur, they leave less, and more of them undo more; not told,
# a stage more only repeats a wrong step, and the network must guess a blur that differs from patch to patch. On the
# bicubic reduction that everyone trains for, where nothing varies, one deep stage is best for its time
# ([measured](../results/experiments.md#stages-data-term-features-carried)): isr-lite has one. isr-any, which is told the
# blur, has four, that share their weights ([what they bring](../results/experiments.md#more-stages-of-the-same-parameters)).
