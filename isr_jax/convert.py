"""The command ``isr-jax convert IN OUT``: PyTorch weights to a model file, or a model to PyTorch's names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError, ModelConfig, UserError
from isr_jax.models.certificate import certify
from isr_jax.models.convert_torch import export_weights, import_weights, is_model
from isr_jax.models.model_file import (
    find_model,
    load_model,
    model_from_parameters,
    parameters_to_dict,
    save_model,
    shipped_models,
)
from isr_jax.models.torch_names import Mode, WeightNormNames


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The arguments of the command."""

    source: Annotated[str, Positional, arg(metavar="IN")]
    """PyTorch weights (.pth, .pt, .safetensors), or a model of ours: its file, run folder or shipped name."""
    target: Annotated[Path, Positional, arg(metavar="OUT")]
    """The file to write: a model file, or, for a model of ours, .safetensors under PyTorch's names."""
    scale: int | None = None
    """Super-resolution factor of PyTorch weights, which they do not tell; 4 if not given."""
    mode: Mode | None = None
    """Data term of PyTorch weights, which they do not tell, by its released name; bicubic if not given."""
    feedback_steps: int | None = None
    """Runs of the feedback block of PyTorch weights, which they do not tell; 4 if not given, 0 without such a block."""
    golden: Path | None = None
    """An .npz of what PyTorch computed from these weights; nothing is written unless the model computes the same."""
    weight_norm_names: WeightNormNames = "weight_g"
    """How the weights written for PyTorch spell weight normalisation: weight_g/weight_v, or parametrizations."""


def main(argv: list[str] | None = None) -> None:
    """Converts as the command line says."""
    options = parse_arguments(
        ConvertOptions,
        argv,
        prog="isr-jax convert",
        description="PyTorch weights of ISRResCNet or SRResCGAN to a model file, or a model to PyTorch's names.",
    )
    source, target = Path(options.source), options.target
    if target.is_dir() or (target.exists() and source.exists() and target.samefile(source)):
        raise ConfigError(f"{target}: OUT must be a file, another one than IN")
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: what is written is a .safetensors file; name it so")
    if options.source in shipped_models() or source.is_dir() or is_model(source):
        _to_torch(options)
    else:
        _from_torch(options)


def _from_torch(options: ConvertOptions) -> None:
    weights = import_weights(
        options.source, scale=options.scale, mode=options.mode, feedback_steps=options.feedback_steps
    )
    model = model_from_parameters(weights.config, weights.parameters)
    print(f"{options.source}: {weights.provenance['layout']}, {describe(weights.config, weights.parameters)}")
    left_out = weights.provenance["left_out"]
    if left_out:
        print(f"left out, not weights: {', '.join(left_out)}")
    if options.mode is not None and weights.config.physics == "none":
        print("--mode is not used: this network has no data term")
    metadata: dict[str, Any] = {"provenance": weights.provenance}
    if options.golden is not None:
        certificate = certify(model, options.golden)
        print(f"largest difference from PyTorch, in grey levels ({certificate['golden']}):")
        for name, difference in certificate["largest_difference"].items():
            print(f"  {name:10}{difference:.6f}")
        if not certificate["holds"]:
            raise UserError(
                f"{options.golden} is not what these weights compute: a difference is above {certificate['tolerance']} "
                "grey levels; check --scale, --mode and --feedback-steps (nothing was written)"
            )
        metadata["certificate"] = certificate
    save_model(options.target, model, metadata)
    print(f"wrote {options.target}")


def _to_torch(options: ConvertOptions) -> None:
    for name in ("scale", "mode", "feedback_steps", "golden"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for PyTorch weights; {options.source} is a model of ours")
    model = load_model(find_model(options.source))
    export_weights(options.target, model, names=options.weight_norm_names)
    print(f"{options.source}: {describe(model.config, parameters_to_dict(model))}")
    print(f"wrote {options.target}; in PyTorch: load_state_dict(safetensors.torch.load_file(...))")


def describe(config: ModelConfig, parameters: dict[str, Any]) -> str:
    """Returns the architecture in one line."""
    erd = config.erd
    return ", ".join(
        [
            f"{config.num_stages} stage{'s' if config.num_stages > 1 else ''}",
            f"{erd.features} features",
            f"{erd.num_blocks} residual blocks",
            f"{erd.feedback_steps} feedback steps" if erd.feedback_steps else "no feedback",
            f"{erd.kernel_size}x{erd.kernel_size} encoder and decoder",
            "weight-normalised" if erd.weight_norm else "plain weights",
            "colour" if config.channels == 3 else "grey",
            f"{sum(array.size for array in parameters.values()):,} parameters",
            f"x{config.scale}",
            f"data term {config.physics}",
        ]
    )


if __name__ == "__main__":
    run(main)
