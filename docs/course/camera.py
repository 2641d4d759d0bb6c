# %% [markdown]
# # Your own camera
#
# The solver knows nothing of bicubic reductions: it is given a *physics*, an object that says how $y$ comes from $x$. A
# camera of your own is a class with one method. Ours shakes: the hand moves sideways while the shutter is open, and
# each of its pixels then gathers $2 \times 2$ pixels of the scene.

# %%
# %%writefile shaky.py
import jax.numpy as jnp

from isr_jax import Physics


class Shaky(Physics):
    """The scene moves by four pixels to the right while the shutter is open; a pixel gathers 2 x 2 of it."""

    scale = 2
    reach = 3  # an LR pixel sees no farther than so many LR pixels to each side: without it, large pictures run whole

    def apply(self, x):  # (N, 2 h, 2 w, C) -> (N, h, w, C)
        padded = jnp.pad(x, ((0, 0), (0, 0), (4, 0), (0, 0)), mode="symmetric")
        moved = sum(padded[:, :, i : i + x.shape[2]] for i in range(5)) / 5
        return (moved[:, ::2, ::2] + moved[:, 1::2, ::2] + moved[:, ::2, 1::2] + moved[:, 1::2, 1::2]) / 4


# %% [markdown]
# ## Is it one?
#
# The adjoint, the norm, the solution by conjugate gradients and a first estimate are derived from `apply`.
# `check_physics` tests all of it on random pictures, against matrices. An operator that is not linear, or sees farther
# than its `reach`, is found out here and not in a picture:

# %%
import isr_jax
from shaky import Shaky

camera = Shaky()
for name, error in isr_jax.check_physics(camera, (6, 6, 3)).items():
    print(f"{name:14} {error:.1e}")

# %% [markdown]
# ## A picture by it

# %%
import jax
import numpy as np
import skimage.data

truth = skimage.data.chelsea()[:240, 80:400].astype(np.float32)[None]
y = np.asarray(camera.observe(truth, jax.random.key(0), 2.0))  # with noise of 2 grey levels
y = np.clip(np.round(y), 0, 255)

# %% [markdown]
# ## A shipped model, told the camera
#
# isr-lite was trained for bicubic reductions. Its data steps take another physics with the picture, its network does
# not know what they leave; so this is better than nothing, no more:

# %%
model = isr_jax.load("isr-lite-x2")
not_told = np.asarray(model(y))
told = np.asarray(model.upscale_batch(y, physics=camera))

# %% [markdown]
# ## Plug and play
#
# Any denoiser solves any physics, without training: the data step and the denoiser take turns. Here it is a
# five-line one, which shrinks wavelet-like details, the mean of all shifts by one pixel:

# %%
import jax.numpy as jnp


def denoise(x, noise_std):
    total = jnp.zeros_like(x)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        z = jnp.roll(x, (dy, dx), (1, 2))
        a, b = z[:, ::2] + z[:, 1::2], z[:, ::2] - z[:, 1::2]  # Haar: sums and differences of rows, then of columns
        parts = [p[:, :, ::2] + s * p[:, :, 1::2] for p in (a, b) for s in (1, -1)]
        parts[1:] = [jnp.sign(p) * jnp.maximum(jnp.abs(p) - 2 * noise_std, 0) for p in parts[1:]]
        aa, ab, ba, bb = (p / 4 for p in parts)
        rows = [jnp.stack([p + q, p - q], 3).reshape(*p.shape[:2], -1, p.shape[3]) for p, q in ((aa, ab), (ba, bb))]
        z = jnp.stack([rows[0] + rows[1], rows[0] - rows[1]], 2).reshape(x.shape)
        total += jnp.roll(z, (-dy, -dx), (1, 2))
    return total / 4


plug = isr_jax.half_quadratic_splitting(camera, y, isr_jax.Denoiser(denoise), noise_std=2.0)
plug = np.asarray(plug)

# %% [markdown]
# ## A model for it
#
# Pairs are folders `HR` and `LRx2`; the camera has a name, `module:Class`. A minute's training on four photographs:

# %%
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

from isr_jax.config import (
    DataConfig,
    ERDConfig,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

photos = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), skimage.data.coffee(), skimage.data.rocket()]
for folder in ("photos/HR", "photos/LRx2"):
    Path(folder).mkdir(parents=True)
for i, photo in enumerate(photos):
    photo = photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2]
    seen = camera.observe(photo[None].astype(np.float32), jax.random.key(i + 1), 2.0)
    Image.fromarray(photo).save(f"photos/HR/{i}.png")
    Image.fromarray(np.clip(np.round(np.asarray(seen[0])), 0, 255).astype(np.uint8)).save(f"photos/LRx2/{i}.png")

erd = ERDConfig(
    features=24,
    num_blocks=4,
    feedback_steps=0,
    kernel_size=3,
    border="zero",
    weight_norm=False,
    first_shortcut=True,
    resolution="lr",
)
config = TrainConfig(
    model=ModelConfig(
        scale=2,
        num_stages=2,
        physics="shaky:Shaky",
        learned_step=True,
        extrapolation=False,
        projection=False,
        clip=False,
        prior=erd,
    ),
    data=DataConfig(
        train=("photos",),
        cache_dir="cache",
        placement="memory",
        patch_size=24,
        batch_size=8,
        augment=False,  # a turned picture would be one of a camera that shakes up and down
    ),
    optimizer=OptimizerConfig(kind="muon", clip_norm=0.1),
    schedule=ScheduleConfig(kind="cosine", learning_rate=2e-3, warmup_steps=20),
    eval=EvalConfig(log_every=100),
    steps=400,
)
run = isr_jax.fit(config, "run", quiet=True)
trained = np.asarray(isr_jax.load(run.workdir)(y))

# %% tags=["hide-input"] alt="The eyes of a cat, as the shaky camera saw them and as five methods restore them"
import matplotlib.pyplot as plt


def psnr(x):
    return 10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth)[:, 8:-8, 8:-8] ** 2))


panels = {
    "what the camera saw": np.repeat(np.repeat(y, 2, 1), 2, 2),
    "isr-lite, not told": not_told,
    "isr-lite, told": told,
    "plug and play": plug,
    "trained": trained,
    "truth": truth,
}
figure, axes = plt.subplots(2, 3, figsize=(11, 7), layout="constrained")
for axis, (label, picture) in zip(axes.flat, panels.items(), strict=True):
    axis.imshow(np.clip(picture[0, 60:200, 30:240], 0, 255).astype(np.uint8))
    axis.set_title(label if label == "truth" else f"{label}, {psnr(picture):.2f} dB")
    axis.axis("off")

# %% [markdown]
# The trained model is a file like any other; it names its camera, so `shaky.py` must be importable where it is loaded:
# `isr-jax upscale photo.png -o big.png --model run`. `isr-jax evaluate --degradation sampling=shaky:Shaky` scores models
# on pictures of the camera. What else a physics may say of itself (a closed form, a tighter first estimate, a kernel) is
# in the [reference][isr_jax.Physics]. Next: [training and watching](training.md).
