# %% [markdown]
# # A solver from nothing
#
# A small picture $y$ is what a camera left of the large one $x$: $y = Hx + n$, with $H$ linear and known. Many $x$ agree
# with $y$; the one we want is also a likely picture. So we look for the minimiser of
#
# $$
# \frac{1}{2} \lVert y - Hx \rVert^2 + \lambda R(x)
# $$
#
# by proximal gradient steps. A stage follows the first term down its gradient, then lets a *prior* mend the result:
#
# $$
# u_k = x_k - s H^T (H x_k - y), \qquad x_{k+1} = u_k - D(u_k)
# $$
#
# Nobody can write $R$ down, so $D$ is a small network that is trained through all stages at once: the solver is
# *unrolled*. On this page we write that in plain JAX and Flax, about sixty lines; then the same by isr_jax.
#
# ## Photographs

# %%
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from sklearn.datasets import load_sample_image

train = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), skimage.data.coffee(), skimage.data.rocket()]
test = skimage.data.astronaut()[:256, 100:356].astype(np.float32)[None]  # (N, H, W, C), 0..255

# %% [markdown]
# ## The camera
#
# Each pixel of $y$ gathers the light of $2 \times 2$ pixels of $x$. For the gradient we need the transpose $H^T$ too. JAX
# derives it from $H$, as it does gradients:

# %%
import jax
import jax.numpy as jnp


def H(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def H_transposed(y):
    n, h, w, c = y.shape
    return jax.linear_transpose(H, jax.ShapeDtypeStruct((n, 2 * h, 2 * w, c), y.dtype))(y)[0]


STEP = 4.0  # 1 / ||H||^2: each row of H has four entries of 1/4, and rows do not overlap

# %% [markdown]
# A transpose can be tested without knowing it: $\langle Hx, y \rangle = \langle x, H^T y \rangle$ for any $x$ and $y$.

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=(1, 8, 8, 3)).astype(np.float32), rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
print(float(jnp.vdot(H(x), y)), float(jnp.vdot(x, H_transposed(y))))

# %% [markdown]
# ## The prior
#
# Three convolutions, which estimate what is wrong with $u$. The last starts at zero: an untrained solver takes a bicubic
# enlargement and makes it agree with what was observed.

# %%
from flax import nnx


class Prior(nnx.Module):
    def __init__(self, features, rngs):
        self.first = nnx.Conv(3, features, (3, 3), rngs=rngs)
        self.middle = nnx.Conv(features, features, (3, 3), rngs=rngs)
        self.last = nnx.Conv(features, 3, (3, 3), kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, u):
        hidden = nnx.relu(self.first(u / 255))
        return 255 * self.last(nnx.relu(self.middle(hidden)))


# %% [markdown]
# ## The solver
#
# K stages are one `lax.scan`: the stage is written and traced once, however many there are. (`unroll=True`, because XLA's
# convolutions for CPUs are slow within a loop; isr_jax has its own, `isr_jax.solver.convolution`, and needs no such thing.)

# %%
NUM_STAGES = 3


def solve(prior, y):
    def stage(x, _):
        u = x - STEP * H_transposed(H(x) - y)
        return u - prior(u), None

    n, h, w, c = y.shape
    start = jax.image.resize(y, (n, 2 * h, 2 * w, c), "cubic")
    x, _ = jax.lax.scan(stage, start, length=NUM_STAGES, unroll=True)
    return x


# %% [markdown]
# ## Training
#
# Patches at random places, the mean absolute error, Adam. `nnx.split` parts the network from its numbers, so that all
# that follows is a function of arrays.

# %%
import optax


def draw(count, side=32):
    patches = []
    for _ in range(count):
        photo = train[rng.integers(len(train))]
        top, left = (rng.integers(size - side) for size in photo.shape[:2])
        patches.append(photo[top : top + side, left : left + side])
    return np.stack(patches).astype(np.float32)


graph, params = nnx.split(Prior(16, nnx.Rngs(0)))
STEPS = 250
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))
state = optimizer.init(params)


@jax.jit
def train_step(params, state, x):
    def loss_of(params):
        return jnp.abs(solve(nnx.merge(graph, params), H(x)) - x).mean()

    loss, gradient = jax.value_and_grad(loss_of)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss


losses = []
for _ in range(STEPS):
    params, state, loss = train_step(params, state, draw(8))
    losses.append(float(loss))
print(f"{np.mean(losses[:20]):.2f} grey levels off at first, {np.mean(losses[-20:]):.2f} at the end")


# %% [markdown]
# ## What it has learned


# %%
def psnr(x, truth):
    return float(10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth) ** 2)))


observed = H(test)
ours = np.asarray(jax.jit(solve)(nnx.merge(graph, params), observed))
bicubic = np.asarray(jax.image.resize(observed, test.shape, "cubic"))

# %% tags=["hide-input"] alt="A face: what there was, bicubic enlargement, our solver, the truth"
panels = {
    "what there was": np.repeat(np.repeat(observed, 2, 1), 2, 2),
    f"bicubic, {psnr(bicubic, test):.2f} dB": bicubic,
    f"ours, {psnr(ours, test):.2f} dB": ours,
    "truth": test,
}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for axis, (label, picture) in zip(axes, panels.items(), strict=True):
    axis.imshow(np.clip(np.asarray(picture[0, 40:180, 60:200]), 0, 255).astype(np.uint8))
    axis.set_title(label)
    axis.axis("off")

# %% [markdown]
# ## The same by isr_jax
#
# What we wrote is there, tested, with all that a real run needs: `isr_jax.BoxAverage` is this camera, `ERD` a better
# prior, `ISRResCNet` the scan, `isr_jax.fit` the loop. A configuration says which of them; photographs are a folder.

# %%
from pathlib import Path

from PIL import Image

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
for i, photo in enumerate(train):
    Image.fromarray(photo).save(f"photos/{i}.png")

config = TrainConfig(
    model=ModelConfig(
        scale=2,
        num_stages=3,
        physics="box",
        learned_step=True,
        extrapolation=False,
        projection=False,
        clip=False,
        prior=ERDConfig(
            features=24,
            num_blocks=2,
            feedback_steps=0,
            kernel_size=3,
            border="zero",
            weight_norm=False,
            first_shortcut=True,
            resolution="lr",  # a quarter of the pixels, so more convolutions for the same time
        ),
    ),
    data=DataConfig(
        train=("photos",),
        cache_dir="cache",
        placement="memory",
        patch_size=24,
        batch_size=8,
        degradation=DegradationConfig(box=1.0, kernel_size=3, rounding="none", told="box"),
    ),
    optimizer=OptimizerConfig(kind="muon", clip_norm=0.1),
    schedule=ScheduleConfig(kind="cosine", learning_rate=2e-3, warmup_steps=20),
    eval=EvalConfig(log_every=100),
    steps=STEPS,
)
run = isr_jax.fit(config, "run", quiet=True)
model = isr_jax.load(run.workdir)
library = np.asarray(model(np.asarray(observed)))
for label, picture in {"bicubic": bicubic, "from nothing": ours, "isr_jax": library}.items():
    print(f"{label:12} {psnr(picture, test):.2f} dB")

# %% [markdown]
# Both learned for 250 steps from four photographs. What a field has found out beyond this page is in
# [the method](../method.md), equation by equation; the file to open first is `isr_jax/solver/unrolled.py`, whose stage
# has the lines you wrote. Next: [your own camera](camera.md).
