"""The table of names: every tensor of the released PyTorch networks and the parameter of ours that it is.

`key_table` pairs the two and says how the axes move; it serves both directions of `convert_torch`.
docs/how-to/pytorch-weights.md explains it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from isr_jax.config import ModelConfig

Layout = Literal["ISRResCNet", "SRResCGAN"]
Mode = Literal["bicubic", "bilinear", "kernel", "normal"]
"""The released code's names of its data terms."""
WeightNormNames = Literal["weight_g", "parametrizations"]
"""How PyTorch names the two parts of a weight-normalised weight: up to 1.x, and since 2.0."""
Kind = Literal["vector", "gain", "conv", "transposed"]

DATA_TERMS = {
    "bicubic": "released_bicubic",
    "bilinear": "released_bilinear",
    "kernel": "released_kernel",
    "normal": "released_decimation",
}
# What the network is made of, in the two layouts.
PARTS: dict[Layout, tuple[str, str]] = {
    "ISRResCNet": ("model.conv", "model.resblocks"),
    "SRResCGAN": ("model.conv1", "model.layer1"),
}


@dataclass(frozen=True)
class Entry:
    """One tensor of PyTorch's and the parameter of ours that it is."""

    key: str
    """PyTorch's name, weight normalisation spelled ``weight_g``, ``weight_v``."""
    parameter: str
    """Our name."""
    kind: Kind
    """How the axes move; see `to_ours`."""
    shape: tuple[int, ...]
    """PyTorch's shape."""
    duplicate_of: str | None = None
    """The key that this one repeats."""


def key_table(config: ModelConfig, layout: Layout) -> list[Entry]:
    """Returns every tensor that a state dict of this network holds, duplicates included, in PyTorch's order."""
    erd, encoder_and_blocks = config.erd, PARTS[layout]
    features, channels, size = erd.features, config.channels, erd.kernel_size

    def conv(name: str, parameter: str, shape: tuple[int, ...], kind: Kind = "conv", duplicate_of: str = ""):
        # Weight normalisation keeps dimension 0 of PyTorch's weight: a convolution's outputs, but the *inputs* of a
        # transposed convolution, whose weight is (inputs, outputs, height, width).
        gain: tuple[int, ...] = (shape[0], 1, 1, 1)
        outputs = shape[1] if kind == "transposed" else shape[0]
        weights: list[tuple[str, str, Any, tuple[int, ...]]] = [("bias", "bias", "vector", (outputs,))]
        if erd.weight_norm:
            weights += [("weight_g", "gain", "gain", gain), ("weight_v", "kernel", kind, shape)]
        else:
            weights += [("weight", "kernel", kind, shape)]
        return [
            Entry(f"{name}.{theirs}", f"{parameter}.{ours}", k, s, f"{duplicate_of}.{theirs}" if duplicate_of else None)
            for theirs, ours, k, s in weights
        ]

    def block(name: str, i: int, duplicate_of: str = "") -> list[Entry]:
        entries = []
        square = (features, features, 3, 3)
        for n in (1, 2):
            original = f"{duplicate_of}.{i}.conv{n}" if duplicate_of else ""
            entries += conv(f"{name}.{i}.conv{n}", f"prior.blocks.{i}.conv{n}", square, duplicate_of=original)
        for n in (1, 2):
            key, parameter = f"{i}.relu{n}.weight", f"prior.blocks.{i}.prelu{n}.slope"
            original = f"{duplicate_of}.{key}" if duplicate_of else None
            entries.append(Entry(f"{name}.{key}", parameter, "vector", (features,), original))
        return entries

    encoder, blocks = encoder_and_blocks
    table = [Entry("alpha", "log_radius", "vector", (config.num_stages,))]
    if config.extrapolation:
        table.append(Entry("w", "log_momentum", "vector", (config.num_stages,)))
    table += conv(encoder, "prior.encoder", (features, channels, size, size))
    for i in range(erd.num_blocks):
        table += block(blocks, i)
    if erd.feedback_steps:
        table += conv("model.fbblock.compress_in", "prior.compress", (features, 2 * features, 1, 1))
        table.append(Entry("model.fbblock.prelu.weight", "prior.compress_prelu.slope", "vector", (2 * features,)))
        for i in range(erd.num_blocks):
            table += block("model.fbblock.RBs", i, duplicate_of=blocks)
    table += conv("model.conv_out", "prior.decoder", (features, channels, size, size), "transposed")
    return table


def to_ours(array: np.ndarray, kind: Kind) -> np.ndarray:
    """Moves the axes of PyTorch's array to ours: OIHW to HWIO, a gain to a vector.

    A transposed convolution of stride 1 is the convolution with the kernel flipped in both directions; its weight is
    (inputs, outputs, height, width).
    """
    match kind:
        case "vector":
            return array
        case "gain":
            return array.reshape(-1)
        case "conv":
            return array.transpose(2, 3, 1, 0)
        case "transposed":
            return array[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)


def to_torch(array: np.ndarray, kind: Kind) -> np.ndarray:
    """The inverse of `to_ours`."""
    match kind:
        case "vector":
            return array
        case "gain":
            return array.reshape(-1, 1, 1, 1)
        case "conv":
            return array.transpose(3, 2, 0, 1)
        case "transposed":
            return array.transpose(2, 3, 0, 1)[:, :, ::-1, ::-1]


def spell(key: str, names: WeightNormNames) -> str:
    """Returns a key of the table in the spelling asked for."""
    if names == "parametrizations":
        key = key.replace(".weight_g", ".parametrizations.weight.original0")
        key = key.replace(".weight_v", ".parametrizations.weight.original1")
    return key
