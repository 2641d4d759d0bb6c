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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from isr_jax.__main__ import exit_code
from isr_jax.models.model_file import load_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.physics import Composed, Physics
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic
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


class KnownBlur(Composed):
    """A blur before the reduction, with the step size of the reduction alone, which the models were trained with."""

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Array:
        """Returns that of the reduction."""
        return self.outer.squared_norm(lr_shape)


class RefinedStart(KnownBlur):
    """The same, starting with a descent on the data term alone."""

    def initial_estimate(self, y: Array) -> Array:
        """Takes the steps."""
        x = super().initial_estimate(y)
        for _ in range(EXTRA_STEPS):
            x = x - self.scale**2 * self.adjoint(self.apply(x) - y)
        return x


def observe(pair: Pair, kernel: Array, noise: float, scale: int) -> np.ndarray:
    """Returns the 8-bit LR picture."""
    clean = np.asarray((Bicubic(scale) @ Blur(kernel)).apply(jnp.asarray(pair.hr[None], jnp.float32)))[0]
    return round_to_8_bits(clean + np.random.default_rng(0).normal(0, noise, clean.shape))


WAYS: dict[str, Callable[[int, Array], Physics]] = {
    "bicubic": lambda scale, kernel: Bicubic(scale),
    "known": lambda scale, kernel: KnownBlur(outer=Bicubic(scale), inner=Blur(kernel)),
    f"known, {EXTRA_STEPS} more steps": lambda scale, kernel: RefinedStart(outer=Bicubic(scale), inner=Blur(kernel)),
}
"""What the model is told."""


def main(argv: list[str] | None = None) -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    models = {Path(name).stem: load_model(name) for name in arguments.model}
    scale = next(iter(models.values())).config.scale
    run = jax.jit(lambda model, lr, physics: model(lr, physics=physics))
    dataset = read_dataset(arguments.data, scale)
    cases = list(itertools.product(NOISES, BLURS))
    kernels = [gaussian_kernel(jnp.array([blur, blur]), jnp.zeros(()), RADIUS) for _, blur in cases]
    observed = [[observe(p, k, n, scale) for p in dataset.pairs] for k, (n, _) in zip(kernels, cases, strict=True)]

    def enlarge_by(
        model: ISRResCNet, way: Callable[[int, Array], Physics], lr: np.ndarray, kernel: Array
    ) -> np.ndarray:
        sr = run(model, lr[None].astype(np.float32), way(scale, kernel))
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
    for name, model in models.items():
        for label, way in WAYS.items():
            print_row(f"{name}, {label}", partial(enlarge_by, model, way))


if __name__ == "__main__":
    sys.exit(exit_code(main))
