"""The certificate that imported weights compute what PyTorch computes from them."""

import hashlib
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isr_jax.config import UserError
from isr_jax.models.torch_file import read_bytes
from isr_jax.models.torch_names import DATA_TERMS
from isr_jax.physics.names import make_physics
from isr_jax.solver.proximal import noise_radius, project_l2_ball
from isr_jax.solver.unrolled import ISRResCNet

QUANTITIES = ("init", "sigma", "grad_in", "grad", "erd_in", "erd", "iterates", "output")
"""What a golden file may hold to compare, or to compute from."""
TOLERANCE = 0.02
"""Grey levels on 0..255 that the certificate allows. Ten stages of float32 differ by about 0.001."""


def certify(model: ISRResCNet, golden: str | Path) -> dict[str, Any]:
    """Compares the model with what PyTorch computed from the same weights, quantity by quantity and stage by stage.

    Args:
      model: The imported model.
      golden: An .npz file as experiments/make_golden.py writes: ``lr``, ``scale`` and what PyTorch made of it, of
        ``mode``, ``kernel``, ``init``, ``sigma``, ``grad_in`` and ``grad``, ``erd_in`` and ``erd``, ``iterates``,
        ``output``.
    Returns: The certificate: the golden file's name and SHA-256, the tolerance, the largest difference of each quantity
      in grey levels ("stage 1", ... for the iterates), and whether it "holds".
    Raises:
      UserError: If the file cannot be read or is for another scale, data term, or colour mode.
    """
    path = Path(golden)
    data = read_bytes(path)
    case = _read_golden(data, path)
    config = model.config
    mode = str(case["mode"]) if "mode" in case else None
    for name, theirs, ours in (
        ("`scale`", int(case["scale"]), config.scale),
        ("`mode`", DATA_TERMS.get(mode or "", "none"), config.physics),
        ("the number of channels", case["lr"].shape[-1], config.channels),
    ):
        if theirs != ours:
            raise UserError(f"{path} is for {name} {theirs}, the model for {ours}: convert with what the file is for")
    try:
        lr = jnp.asarray(case["lr"], jnp.float32)
        # PyTorch's kernel is (channels, 1, rows, columns).
        kernel = jnp.asarray(case["kernel"][:, 0].transpose(1, 2, 0)[None], jnp.float32) if "kernel" in case else None
        arrays = {name: jnp.asarray(array, jnp.float32) for name, array in case.items() if name in QUANTITIES}
        computed = _compute(model, lr, kernel, arrays)
    except (IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit the model: {error}") from None
    differences: dict[str, float] = {}
    for name in (name for name in QUANTITIES if name in computed):
        value = computed[name]
        if value.shape != case[name].shape:
            raise UserError(f"{path}: {name} has shape {case[name].shape}, the model computes {value.shape}")
        difference = np.abs(np.asarray(value, np.float64) - case[name])
        difference = np.where(np.isfinite(difference), difference, np.inf)
        if name == "iterates":
            differences |= {f"stage {k}": float(of_stage.max()) for k, of_stage in enumerate(difference, 1)}
        else:
            differences[name] = float(difference.max())
    if not differences:
        raise UserError(f"{path} holds nothing to compare with (iterates, output, init, sigma, grad, erd)")
    return {
        "golden": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "tolerance": TOLERANCE,
        "largest_difference": differences,
        "holds": max(differences.values()) <= TOLERANCE,
    }


def _read_golden(data: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            case = {name: file[name] for name in file.files}
    except Exception as error:  # np.load has no list of what it raises on damaged files
        raise UserError(f"{path} is not a golden .npz file ({type(error).__name__}: {error})") from None
    lr, scale = case.get("lr", np.zeros(0)), case.get("scale", np.zeros(1))
    if lr.ndim != 4 or not lr.size or scale.ndim != 0:
        raise UserError(f"{path} is not a golden file: it needs at least lr (N, height, width, channels) and scale")
    if scale.dtype.kind not in "iuf" or scale != np.floor(scale):
        raise UserError(f"{path} is not a golden file: its scale is {scale}, and must be a whole number")
    return case


@jax.jit
def _compute(
    model: ISRResCNet, lr: jax.Array, kernel: jax.Array | None, case: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Returns what the model makes of each quantity that the golden file has."""
    physics = make_physics(model.config.physics, scale=model.config.scale, kernel=kernel)
    observation, state = model.prepare(lr, physics=physics)
    computed = {"init": state.x, "sigma": observation.noise_std}
    if "grad_in" in case:
        computed["grad"] = physics.adjoint(physics.apply(case["grad_in"]) - lr)
    if "erd_in" in case:
        noise, _ = model.prior(case["erd_in"])
        radius = noise_radius(observation.noise_std, model.log_radius[0], noise[0].size)
        computed["erd"] = project_l2_ball(noise, radius)
    if "iterates" in case or "output" in case:
        _, iterates = model.iterate(observation, state, 0, model.config.num_stages)
        computed |= {"iterates": iterates, "output": iterates[-1]}
    return {name: value for name, value in computed.items() if name in case}
