"""Pictures reduced in other ways than a model was trained for: does a data term that knows how help?

    python experiments/unseen_degradations.py --model isr-lite-x4 [MODEL ...] --data Set5

LR pictures are made by a Gaussian blur before the bicubic reduction, and by noise after it. Each model runs with the
data term it was trained with ("bicubic"), with the exact one, blur included ("known"), and with the exact one after
further gradient steps on it, before the first stage. PSNR-Y in dB.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from isr_jax.__main__ import exit_code
from isr_jax.models.model_file import load_model
from isr_jax.physics.degradation import ObservationModel, downscale, make_observation_model
from isr_jax.physics.resize import imresize
from isr_jax.physics.synthesis import blurred, gaussian_kernel
from isr_jax.pictures.metrics import round_to_8_bits, score_picture
from isr_jax.pictures.pairs import Pair, read_dataset
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import prepare_process

BLURS = (0.0, 0.8, 1.6, 2.4)
"""Standard deviations, HR pixels."""
NOISES = (0.0, 5.0)
"""Levels on the 0..255 scale."""
EXTRA_STEPS = 10
RADIUS = 8


class KnownBlur(ISRResCNet):
    """A model whose data term is a blur before the bicubic reduction."""

    extra_steps = 0

    def _observation_model(self, lr_shape, kernel) -> ObservationModel:
        scale = self.config.scale
        bicubic = make_observation_model("matlab_bicubic", lr_shape, scale)
        hr = jax.ShapeDtypeStruct((lr_shape[0], lr_shape[1] * scale, lr_shape[2] * scale, lr_shape[3]), jnp.float32)
        apply = partial(blur_and_reduce, kernel, scale)
        back_project = jax.linear_transpose(apply, hr)

        def start(y: Array) -> Array:
            x = bicubic.initial_estimate(y)
            for _ in range(self.extra_steps):
                x = x - bicubic.step_size() * back_project(apply(x) - y)[0]
            return x

        return ObservationModel(apply, lambda y: back_project(y)[0], start, bicubic.step_size)


class RefinedStart(KnownBlur):
    """The same after a descent on the data term alone."""

    extra_steps = EXTRA_STEPS


def blur_and_reduce(kernel: Array, scale: int, x: Array) -> Array:
    """H: a blur with symmetric borders, then MATLAB's bicubic reduction."""
    return downscale(jax.vmap(blurred, (0, None))(x, kernel), scale)


def observe(pair: Pair, kernel: Array, noise: float, scale: int) -> np.ndarray:
    """Returns the 8-bit LR picture."""
    clean = np.asarray(blur_and_reduce(kernel, scale, jnp.asarray(pair.hr[None], jnp.float32)))[0]
    return round_to_8_bits(clean + np.random.default_rng(0).normal(0, noise, clean.shape))


def variants(name: str) -> list[tuple[str, ISRResCNet, bool]]:
    """Returns (label, model, whether it is told the blur) for the three ways to run a model."""
    plain, known, refined = (load_model(name) for _ in range(3))
    known.__class__, refined.__class__ = KnownBlur, RefinedStart
    ways = (("bicubic", plain, False), ("known", known, True), (f"known, {EXTRA_STEPS} more steps", refined, True))
    return [(f"{Path(name).stem}, {way}", model, knows) for way, model, knows in ways]


def main(argv: list[str] | None = None) -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    ways = [way for name in arguments.model for way in variants(name)]
    scale = ways[0][1].config.scale
    run = jax.jit(lambda model, lr, kernel: model(lr, kernel=kernel))
    dataset = read_dataset(arguments.data, scale)
    cases = list(itertools.product(NOISES, BLURS))
    kernels = [gaussian_kernel(jnp.array([blur, blur]), jnp.zeros(()), RADIUS) for _, blur in cases]
    observed = [[observe(p, k, n, scale) for p in dataset.pairs] for k, (n, _) in zip(kernels, cases, strict=True)]

    def enlarge_by(model: ISRResCNet, knows: bool, lr: np.ndarray, kernel: Array) -> np.ndarray:
        sr = run(model, lr[None].astype(np.float32), kernel if knows else None)
        return round_to_8_bits(np.asarray(sr)[0])

    def print_row(label: str, enlarge: Callable[[np.ndarray, Array], np.ndarray]) -> None:
        means = []
        for kernel, lrs in zip(kernels, observed, strict=True):
            results = (enlarge(lr, kernel) for lr in lrs)
            psnr = [
                score_picture(sr, pair.hr, scale, ("psnr_y",))["psnr_y"]
                for pair, sr in zip(dataset.pairs, results, strict=True)
            ]
            means.append(f"{np.mean(np.array(psnr, float)):.2f}")
        print(f"| {label} | {' | '.join(means)} |", flush=True)

    print(f"| | {' | '.join(f'blur {blur:g}, noise {noise:g}' for noise, blur in cases)} |")
    print("| --- " * (1 + len(cases)) + "|")
    print_row("bicubic enlargement", lambda lr, _: imresize(lr, scale))
    for label, model, knows in ways:
        print_row(label, partial(enlarge_by, model, knows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
