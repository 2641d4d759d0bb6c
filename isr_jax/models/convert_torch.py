"""PyTorch's weights in and out, by the table of `torch_names`; docs/how-to/pytorch-weights.md explains it."""

import hashlib
import json
import re
import struct
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from isr_jax.config import ConfigError, ERDConfig, ModelConfig, UserError
from isr_jax.files import printable, replace_file
from isr_jax.models import tensor_file
from isr_jax.models.model_file import parameters_to_dict
from isr_jax.models.torch_file import parse_torch_file, read_bytes
from isr_jax.models.torch_names import (
    DATA_TERMS,
    PARTS,
    Entry,
    Layout,
    Mode,
    WeightNormNames,
    key_table,
    spell,
    to_ours,
    to_torch,
)
from isr_jax.solver.unrolled import ISRResCNet

# The exponential moving average first: those are the weights one evaluates with.
WRAPPERS = ("params_ema", "model_state_dict", "state_dict", "params")
LARGEST_WEIGHT = 1e6
"""Far beyond any trained weight; what a flipped bit of an exponent makes."""


@dataclass(frozen=True)
class ImportedWeights:
    """What a file of PyTorch weights holds, in our names and axes."""

    config: ModelConfig
    parameters: dict[str, np.ndarray]
    provenance: dict[str, Any]
    """Goes into the model file: source, SHA-256, layout, and what was left out."""


# --- in --------------------------------------------------------------------------------------------------------------


def import_weights(
    path: str | Path, *, scale: int | None = None, mode: Mode | None = None, feedback_steps: int | None = None
) -> ImportedWeights:
    """Reads PyTorch weights of ISRResCNet or of SRResCGAN's generator, in any of their dialects.

    Args:
      path: A file of ``torch.save`` or a .safetensors file.
      scale: The super-resolution factor, which weights do not tell (default: 4, or what `export_weights` noted).
      mode: The data term, likewise (default: bicubic). SRResCGAN has none.
      feedback_steps: Runs of the residual blocks, likewise (default: 4; 0 where the file has no feedback block).
    Raises:
      UserError: If the file cannot be read, or is not exactly such a network: all of what is wrong is listed.
    """
    path = Path(path)
    data = read_bytes(path)
    if is_safetensors(data):
        tensors, notes = _read_safetensors(data, path)
    else:
        tensors, notes = parse_torch_file(data, str(path)), {}
    wrapper, state = _unwrap(tensors, path)
    ignored = [str(key) for key in tensors if key != wrapper] if wrapper else []
    problems: list[str] = []
    state, names = _canonical(state, problems)
    layout, config = _detect(state, path)

    has_feedback = config.erd.feedback_steps > 0
    if feedback_steps is None:
        feedback_steps = int(notes.get("feedback_steps", 4)) if has_feedback else 0
    if has_feedback != (feedback_steps > 0):
        raise ConfigError(
            f"{path} has {'a' if has_feedback else 'no'} feedback block (model.fbblock), so `feedback_steps` must be "
            + ("at least 1" if has_feedback else "0")
        )
    if layout == "ISRResCNet":
        config = replace(config, physics=DATA_TERMS[mode or notes.get("mode", "bicubic")])
    config = replace(
        config,
        scale=notes.get("scale", 4) if scale is None else scale,
        prior=replace(config.erd, feedback_steps=feedback_steps),
    )

    parameters = _take(state, key_table(config, layout), problems)
    if problems:
        plural = "problem" if len(problems) == 1 else "problems"
        raise UserError(f"{path} does not hold an {layout}; {len(problems)} {plural}: {'; '.join(problems)}")
    provenance = {
        "source": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "layout": layout,
        "names": names,
        "wrapper": wrapper or "none",
        "left_out": ignored,
    }
    return ImportedWeights(config, parameters, provenance)


def load_released_weights(path: str | Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Reads PyTorch weights for a model of a known configuration, named as `parameters_to_dict` names them.

    Raises:
      UserError: If the file does not hold exactly that network.
    """
    found = import_weights(path)
    for name in ("channels", "num_stages", "extrapolation"):
        if getattr(found.config, name) != getattr(config, name):
            raise UserError(f"{path} has {name} = {getattr(found.config, name)}, the model {getattr(config, name)}")
    return found.parameters


def is_safetensors(data: bytes) -> bool:
    """Whether the bytes start like a .safetensors file: the length of a JSON object, then the object."""
    return len(data) > 9 and data[8:9] == b"{" and struct.unpack_from("<Q", data)[0] <= len(data) - 8


def is_model(path: Path) -> bool:
    """Whether the file is a model of this package, by the note in its header."""
    try:
        return tensor_file.read_metadata(path).get("format") == "isr_jax"
    except (ValueError, OSError):
        return False


def _read_safetensors(data: bytes, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the tensors, and what `export_weights` noted beside them."""
    try:
        tensors, metadata = tensor_file.decode_tensors(data)
        notes = json.loads(metadata.get("isr_jax", "{}"))
        _check_notes(notes)
    except ValueError as error:
        raise UserError(f"{path}: damaged, or not a .safetensors file ({error})") from None
    return tensors, notes


def _check_notes(notes: Any) -> None:
    expected = {"scale": int, "mode": str, "feedback_steps": int}
    if not isinstance(notes, dict) or any(type(v) is not expected.get(k) for k, v in notes.items()):
        raise ValueError("its isr_jax note cannot be understood")
    if notes.get("mode", "bicubic") not in get_args(Mode):
        raise ValueError(f"its isr_jax note names an unknown mode {notes['mode']!r}")


def _unwrap(tensors: dict[Any, Any], path: Path) -> tuple[str | None, dict[Any, Any]]:
    """Returns the state dict, and the key it stood under."""
    wrappers = [key for key in WRAPPERS if isinstance(tensors.get(key), dict)]
    if wrappers:
        return wrappers[0], tensors[wrappers[0]]
    if any(isinstance(value, np.ndarray) for value in tensors.values()):
        return None, tensors
    keys = ", ".join(str(key)[:40] for key in list(tensors)[:8]) or "nothing"
    raise UserError(f"{path} holds no state dict: it has {keys}, and none of {', '.join(WRAPPERS)}")


def _canonical(state: dict[Any, Any], problems: list[str]) -> tuple[dict[str, np.ndarray], str]:
    """Returns the state under the names of the table, and which dialect of weight normalisation it spoke."""
    named: dict[str, np.ndarray] = {}
    spellings: Counter[str] = Counter()
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray):
            problems.append(f"{printable(str(key), 120)} is a {type(value).__name__}, not a tensor")
            continue
        name = re.sub(r"(^|\.)module\.", r"\1", key)  # DataParallel's, around the solver or the network in it
        for new, old in (
            ("parametrizations.weight.original0", "weight_g"),
            ("parametrizations.weight.original1", "weight_v"),
        ):
            if name.endswith(f".{new}"):
                name = name.removesuffix(new) + old
                spellings["parametrizations"] += 1
            elif name.endswith(f".{old}"):
                spellings["weight_g"] += 1
        if name in named and not _same(named[name], value):
            problems.append(f"{printable(key, 120)} disagrees with another spelling of the same key")
        named[name] = value
    return named, " and ".join(sorted(spellings)) or "plain weights"


def _detect(state: dict[str, np.ndarray], path: Path) -> tuple[Layout, ModelConfig]:
    """Reads the architecture from keys and shapes; whether they fit it is for `_take` to say."""
    votes = {
        layout: sum(key.startswith((f"{encoder}.", f"{blocks}.")) for key in state)
        for layout, (encoder, blocks) in PARTS.items()
    }
    layout: Layout = "SRResCGAN" if votes["SRResCGAN"] > votes["ISRResCNet"] else "ISRResCNet"
    if not any(votes.values()):
        keys = ", ".join(printable(key, 120) for key in list(state)[:6]) or "none"
        raise UserError(f"{path} is neither an ISRResCNet nor an SRResCGAN generator: its keys are {keys} ...")
    encoder, blocks = PARTS[layout]
    weight_norm = sum(key.endswith((".weight_g", ".weight_v")) for key in state) > 0
    kernel = state.get(f"{encoder}.weight_v" if weight_norm else f"{encoder}.weight")
    features, channels, size = (64, 3, 5) if kernel is None or kernel.ndim != 4 else kernel.shape[:3]
    # Different numbers, not the largest: a damaged "99999999" must not ask for so many blocks.
    numbers = {match[1] for key in state if (match := re.match(re.escape(blocks) + r"\.(\d+)\.", key))}
    alpha = state.get("alpha")
    num_stages = len(alpha) if alpha is not None and alpha.ndim == 1 else 10
    gan = layout == "SRResCGAN"
    try:
        return layout, ModelConfig(
            channels=channels,
            num_stages=1 if gan else num_stages,
            physics="none" if gan else "released_bicubic",
            extrapolation=not gan,
            noise_from="initial" if gan else "lr",
            prior=ERDConfig(
                features=features,
                num_blocks=len(numbers),
                feedback_steps=4 if any(key.startswith("model.fbblock.") for key in state) else 0,
                kernel_size=size,
                weight_norm=weight_norm,
            ),
        )
    except ConfigError as error:
        raise UserError(f"{path} holds no {layout} that exists: {error}") from None


def _take(state: dict[str, np.ndarray], table: list[Entry], problems: list[str]) -> dict[str, np.ndarray]:
    """Returns the parameters that the table names, and adds to `problems` all that does not fit it."""
    entries = {entry.key: entry for entry in table}
    has_duplicates = any(entry.key in state for entry in table if entry.duplicate_of)
    parameters: dict[str, np.ndarray] = {}
    problems += [f"{key} is missing" for key, entry in entries.items()
                 if key not in state and (has_duplicates or not entry.duplicate_of)]  # fmt: skip
    problems += [f"{printable(key, 120)} is unknown" for key in state if key not in entries]
    for key, entry in entries.items():
        array = state.get(key)
        if array is None:
            continue
        if array.shape != entry.shape:
            problems.append(f"{key} has shape {array.shape}, not {entry.shape}")
        elif array.dtype not in (np.float32, np.float16):
            problems.append(f"{key} holds {array.dtype}, not float32 or half precision")
        elif not np.isfinite(array).all():
            problems.append(f"{key} holds infinities or NaNs")
        elif (largest := float(np.abs(array).max(initial=0))) > LARGEST_WEIGHT:
            problems.append(f"{key} holds {largest:.2g}, which no trained weight is")
        elif key.endswith(".weight_v") and not np.square(array, dtype=np.float32).sum(axis=(1, 2, 3)).all():
            problems.append(f"{key} has a channel of zeros, by whose norm weight normalisation would divide")
        elif entry.duplicate_of is None:
            parameters[entry.parameter] = np.ascontiguousarray(to_ours(array, entry.kind), np.float32)
        elif entry.duplicate_of in state and not _same(array, state[entry.duplicate_of]):
            problems.append(f"{key} disagrees with {entry.duplicate_of}, which it repeats")
    return parameters


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# --- out -------------------------------------------------------------------------------------------------------------


def export_weights(path: str | Path, model: ISRResCNet, *, names: WeightNormNames = "weight_g") -> None:
    """Writes the model as a .safetensors file under PyTorch's names, which PyTorch's own safetensors package loads.

    The released code's duplicates are written too, so that a strict ``load_state_dict`` is content. Scale, data term
    and feedback steps, which a state dict does not tell, stand in the file's metadata for `import_weights`.

    Raises:
      UserError: If the released networks cannot compute what this model does; every such field is named.
    """
    config = model.config
    layout: Layout = "SRResCGAN" if config.physics == "none" else "ISRResCNet"
    _check_expressible(config, layout)
    ours = parameters_to_dict(model)
    tensors = {
        spell(entry.key, names): np.ascontiguousarray(to_torch(ours[entry.parameter], entry.kind))
        for entry in key_table(config, layout)
    }
    modes = {data_term: mode for mode, data_term in DATA_TERMS.items()}
    notes: dict[str, Any] = {"scale": config.scale, "feedback_steps": config.erd.feedback_steps}
    if config.physics in modes:
        notes["mode"] = modes[config.physics]
    data = tensor_file.encode_tensors(tensors, {"format": "pt", "isr_jax": json.dumps(notes)})
    replace_file(Path(path), lambda temporary: temporary.write_bytes(data))


def _check_expressible(config: ModelConfig, layout: Layout) -> None:
    """Raises unless the network is one of PyTorch's, up to what those leave open: sizes, scale, data term."""
    erd = config.erd
    released = ModelConfig(
        scale=config.scale,
        channels=config.channels,
        num_stages=1 if layout == "SRResCGAN" else config.num_stages,
        physics=config.physics if config.physics in (*DATA_TERMS.values(), "none") else "released_bicubic",
        extrapolation=layout == "ISRResCNet",
        noise_from="lr" if layout == "ISRResCNet" else "initial",
        radius_range=config.radius_range,
        remat=config.remat,
        prior=ERDConfig(
            features=erd.features,
            num_blocks=erd.num_blocks,
            feedback_steps=erd.feedback_steps if layout == "ISRResCNet" else 0,
            kernel_size=erd.kernel_size,
            weight_norm=erd.weight_norm,
        ),
    )
    differences = [
        f"{prefix}{name} is {getattr(ours, name)!r} (theirs: {getattr(theirs, name)!r})"
        for prefix, ours, theirs in (("", config, released), ("prior.", config.erd, released.erd))
        for name in vars(ours)
        if name != "prior" and getattr(ours, name) != getattr(theirs, name)
    ]
    if differences:
        raise UserError(f"PyTorch's {layout} cannot hold this model: {'; '.join(differences)}")
