"""What is measured during training: pictures of validation folders, and what the solver has learned for its stages."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isr_jax.physics.names import needs_kernel
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.metrics import round_to_8_bits, score_picture
from isr_jax.pictures.pairs import Pair
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import Params, make_bind


def make_evaluation(
    model: ISRResCNet,
) -> Callable[[Params, dict[str, list[Pair]], dict[str, np.ndarray]], dict[str, float]]:
    """Makes the function that measures parameters on validation folders: averages over each folder's pictures.

    Its last argument receives the first super-resolved picture of each folder, uint8, to look at. The result's keys
    are "FOLDER/psnr_y", "FOLDER/ssim_y" (if all pictures are large enough), with more than one stage
    "FOLDER/psnr_y_stage_K", and for comparison "FOLDER/psnr_y_bicubic", of bicubic enlargement.
    """
    bind = make_bind(model)
    scale = model.config.scale
    # A model that needs to be told the blur is told what the reader of pairs does where LR pictures are absent.
    physics = Bicubic(scale) if needs_kernel(model.config.physics) else None

    bicubic: dict[str, float] = {}

    def enlarged(folder: str, pairs: list[Pair]) -> float:
        if folder not in bicubic:
            scores: list[Any] = [
                score_picture(imresize(pair.lr, scale), pair.hr, scale, ("psnr_y",))["psnr_y"] for pair in pairs
            ]
            bicubic[folder] = float(np.mean(scores))
        return bicubic[folder]

    @functools.partial(jax.jit, compiler_options=compiler_options(model.config))
    def predict(params: Params, lr: jax.Array) -> jax.Array:
        return bind(params).folded()(lr.astype(jnp.float32), physics=physics, all_stages=True)[:, 0]

    def evaluate(params: Params, folders: dict[str, list[Pair]], pictures: dict[str, np.ndarray]) -> dict[str, float]:
        local = jax.tree.map(lambda a: a.addressable_data(0), params)
        values: dict[str, float] = {}
        for folder, pairs in folders.items():
            psnrs, ssims = [], []
            for pair in pairs:
                stages = round_to_8_bits(np.asarray(jax.device_get(predict(local, pair.lr[None]))))
                pictures.setdefault(f"{folder}/picture", stages[-1])
                psnrs.append([score_picture(stage, pair.hr, scale, ("psnr_y",))["psnr_y"] for stage in stages])
                ssims.append(score_picture(stages[-1], pair.hr, scale, ("ssim_y",))["ssim_y"])
            means = np.mean(psnrs, axis=0)
            values[f"{folder}/psnr_y"] = float(means[-1])
            if None not in ssims:
                values[f"{folder}/ssim_y"] = float(np.mean(ssims))
            if len(means) > 1:
                values |= {f"{folder}/psnr_y_stage_{k}": float(v) for k, v in enumerate(means, 1)}
            values[f"{folder}/psnr_y_bicubic"] = enlarged(folder, pairs)
        return values

    return evaluate


def stage_parameters(params: Params) -> dict[str, float]:
    """Returns what the solver has learned for each stage: alpha, w and the factor of the step size."""
    names = {"log_radius": "alpha", "log_momentum": "w", "step": "step_factor"}
    return {
        f"{label}_stage_{k}": float(value)
        for name, label in names.items()
        if name in params
        for k, value in enumerate(np.asarray(params[name].addressable_data(0)), 1)
    }
