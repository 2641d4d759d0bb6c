"""Small state dicts as PyTorch's networks have them, names and shapes written out apart from the package's table."""

from collections import OrderedDict

import numpy as np


def conv(
    state: OrderedDict, rng, name: str, shape: tuple[int, ...], *, spelling: str, transposed: bool = False
) -> None:
    """`spelling` is "weight_g", "parametrizations" or "plain"."""
    state[f"{name}.bias"] = rng.normal(size=shape[1] if transposed else shape[0]).astype("f4")
    gain = rng.uniform(0.5, 1.5, size=(shape[0], 1, 1, 1)).astype("f4")
    weight = rng.normal(size=shape).astype("f4")
    if spelling == "plain":
        state[f"{name}.weight"] = (weight * 0.2).astype("f4")
    elif spelling == "weight_g":
        state[f"{name}.weight_g"], state[f"{name}.weight_v"] = gain, weight
    else:
        state[f"{name}.parametrizations.weight.original0"] = gain
        state[f"{name}.parametrizations.weight.original1"] = weight


def residual_block(state: OrderedDict, rng, name: str, features: int, spelling: str) -> None:
    conv(state, rng, f"{name}.conv1", (features, features, 3, 3), spelling=spelling)
    state[f"{name}.relu1.weight"] = rng.uniform(0, 0.3, features).astype("f4")
    state[f"{name}.relu2.weight"] = rng.uniform(0, 0.3, features).astype("f4")
    conv(state, rng, f"{name}.conv2", (features, features, 3, 3), spelling=spelling)


def isrrescnet(
    *, features=4, blocks=2, stages=3, channels=3, size=5, spelling="weight_g", feedback=True, duplicates=True, seed=0
) -> OrderedDict:
    rng = np.random.default_rng(seed)
    state = OrderedDict(
        alpha=np.linspace(0.7, 0.1, stages, dtype="f4"), w=rng.uniform(-2, -1, stages).astype("f4")
    )  # fmt: skip
    conv(state, rng, "model.conv", (features, channels, size, size), spelling=spelling)
    for i in range(blocks):
        residual_block(state, rng, f"model.resblocks.{i}", features, spelling)
    if feedback:
        conv(state, rng, "model.fbblock.compress_in", (features, 2 * features, 1, 1), spelling=spelling)
        state["model.fbblock.prelu.weight"] = rng.uniform(0, 0.3, 2 * features).astype("f4")
        if duplicates:
            repeated = [key for key in state if key.startswith("model.resblocks.")]
            state |= {key.replace("resblocks", "fbblock.RBs"): state[key] for key in repeated}
    conv(state, rng, "model.conv_out", (features, channels, size, size), spelling=spelling, transposed=True)
    return state


def srrescgan(*, features=4, blocks=2, channels=3, spelling="weight_g", seed=0) -> OrderedDict:
    rng = np.random.default_rng(seed)
    state = OrderedDict(alpha=np.array([0.3], "f4"))
    conv(state, rng, "model.conv1", (features, channels, 5, 5), spelling=spelling)
    for i in range(blocks):
        residual_block(state, rng, f"model.layer1.{i}", features, spelling)
    conv(state, rng, "model.conv_out", (features, channels, 5, 5), spelling=spelling, transposed=True)
    return state
