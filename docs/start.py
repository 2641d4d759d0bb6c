# %% [markdown]
# # Start: five minutes
#
#     git clone ADDRESS isr_jax && cd isr_jax
#     pip install .
#
# is all that inference needs: JAX, Flax, NumPy, SciPy, Pillow; Python 3.11 or newer. For an accelerator install the
# `jax` of your platform first. `pip install '.[train]'` adds training; the other extras are named where they are used.
#
# ## A picture
#
# The photograph of a cat that comes inside scikit-image, reduced four times, as if it were all that is left:

# %%
import numpy as np
import skimage.data
from PIL import Image

from isr_jax.physics.resize import imresize

truth = skimage.data.chelsea()[:300, :448]
Image.fromarray(imresize(truth, 1 / 4)).save("small.png")
Image.open("small.png").size

# %% [markdown]
# From the shell:

# %% language="bash"
# isr-jax upscale small.png big.png

# %% [markdown]
# In Python:

# %%
import isr_jax

model = isr_jax.load("isr-lite-x4")  # shipped with the package, nothing is downloaded
big = model.upscale("small.png")
big.shape, big.dtype

# %% tags=["hide-input"] alt="A detail of the cat: what there was, bicubic, isr-lite-x4, truth"
import matplotlib.pyplot as plt

small = np.asarray(Image.open("small.png"))
detail = (slice(40, 200), slice(120, 320))
panels = {
    "what there was": np.kron(small, np.ones((4, 4, 1), np.uint8)),
    "bicubic": imresize(small, 4),
    "isr-lite-x4": big,
    "truth": truth,
}
figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained")
for axis, (label, picture) in zip(axes, panels.items(), strict=True):
    axis.imshow(picture[detail])
    axis.set_title(label)
    axis.axis("off")

# %% [markdown]
# How near is it to the truth? PSNR and SSIM of the luma, the way the field measures them:

# %%
from isr_jax.pictures.metrics import score_picture

for label in ("bicubic", "isr-lite-x4"):
    scores = score_picture(panels[label], truth, 4)
    print(f"{label:12} {scores['psnr_y']:.2f} dB, SSIM {scores['ssim_y']:.3f}")

# %% [markdown]
# ## The network itself
#
# is a [Flax NNX](https://flax.readthedocs.io) module and a pytree like any other: `jit`, `grad` and `vmap` go through it.

# %%
import jax.numpy as jnp

from isr_jax.models.model_file import load_model

network = load_model("isr-lite-x4")
lr = jnp.asarray(small[None], jnp.float32)  # (N, h, w, 3), 0..255
network(lr).shape

# %% [markdown]
# Where next? [The course](course/index.md) builds the solver from nothing in four steps; [the tasks](how-to/index.md)
# are one page each; [the method](method.md) leads from each equation to its function.
