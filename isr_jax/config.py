"""Configurations: frozen dataclasses that check themselves.

This module imports neither jax nor tensorflow, so that ``--help`` and a wrong command line answer at once.
Every error is a `ConfigError` of one line that names the field and the remedy.
"""

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend: one line that names the file or field and the remedy. Commands exit with 1."""


class ConfigError(UserError, ValueError):
    """A command line or configuration that cannot be used. Commands exit with 2."""


DataTerm = Literal[
    "matlab_bicubic",
    "blur",
    "decimation",
    "released_bicubic",
    "released_bilinear",
    "released_kernel",
    "released_decimation",
    "none",
]


@dataclass(frozen=True, kw_only=True)
class ERDConfig:
    """The encoder - resnet - decoder network, the prior of the solver. The defaults are the released network."""

    features: int = 64
    """Channels of the hidden feature maps."""
    num_blocks: int = 5
    """Residual blocks, two 3x3 convolutions each."""
    feedback_steps: int = 4
    """How often the residual blocks run on their own output (S); 0 runs them once, without the 1x1 convolution."""
    feedback_input: Literal["hidden", "encoder"] = "hidden"
    """What is concatenated with the features: themselves (the released code) or the encoder's (the paper's figure)."""
    kernel_size: int = 5
    """Width of the encoder's and the decoder's convolution, odd."""
    border: Literal["reflect", "zero"] = "reflect"
    """Border of the encoder's and the residual blocks' convolutions; the decoder's is always zero."""
    weight_norm: bool = True
    """Whether each convolution is weight-normalised (Salimans & Kingma 2016)."""
    first_shortcut: bool = False
    """Whether the first residual block adds its input; the released one does not."""
    resolution: Literal["hr", "lr"] = "hr"
    """Where the network works: on HR pixels (released), or on LR pixels between space-to-depth and depth-to-space."""
    carry_features: bool = False
    """Whether a stage also sees the features of the stage before; only at LR resolution."""

    def __post_init__(self) -> None:
        _at_least(self, "features", 1)
        _at_least(self, "num_blocks", 1)
        _at_least(self, "feedback_steps", 0)
        _at_least(self, "kernel_size", 1)
        _check_choices(self)
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"erd.kernel_size is {self.kernel_size}; choose an odd number")
        if self.carry_features and self.resolution != "lr":
            raise ConfigError('erd.carry_features needs erd.resolution="lr"')


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The unrolled solver. The defaults are the released network, ISRResCNet x4."""

    scale: int = 4
    """Super-resolution factor, HR size over LR size."""
    channels: int = 3
    """Colour channels of the pictures: 3 or 1."""
    num_stages: int = 10
    """Unrolled iterations (K)."""
    per_stage: bool = False
    """Whether each stage has an ERD of its own; otherwise all share one (released)."""
    data_term: DataTerm = "released_bicubic"
    """Observation model H of the gradient step; "released_*": the released code's; the others have exact adjoints."""
    align_corners: bool = False
    """Of "released_bilinear" alone: sample with the corners aligned instead of as released."""
    learned_step: bool = False
    """Whether the step size of each stage is learned, as a factor that starts at 1."""
    extrapolation: bool = True
    """Whether stages extrapolate from the two iterates before, with learned momentum."""
    projection: bool = True
    """Whether the estimated noise is projected on the l2 ball of the noise level."""
    clip: bool = True
    """Whether each iterate is clipped to 0..255."""
    noise_from: Literal["lr", "initial"] = "lr"
    """The picture whose noise level is estimated: the observation (released) or the initial estimate (SRResCGAN)."""
    radius_range: tuple[float, float] = (2.0, 1.0)
    """First and last value of e^alpha, the homotopy: the projection radius in units of sigma sqrt(N - 1), positive."""
    remat: bool = False
    """Whether the backward pass recomputes each stage instead of storing its activations."""
    erd: ERDConfig = field(default_factory=ERDConfig)
    """The network of the proximal step."""

    def __post_init__(self) -> None:
        _at_least(self, "scale", 1)
        _at_least(self, "num_stages", 1)
        _check_choices(self)
        if self.channels not in (1, 3):
            raise ConfigError(f"model.channels is {self.channels}; pictures have 3 channels (colour) or 1 (grey)")
        if min(self.radius_range) <= 0:
            raise ConfigError(
                f"model.radius_range is {self.radius_range}; both ends are factors of the radius and must be positive"
            )
        if self.align_corners and self.data_term != "released_bilinear":
            raise ConfigError('model.align_corners has a meaning only with model.data_term="released_bilinear"')
        if self.erd.resolution == "lr" and self.data_term == "none":
            raise ConfigError('erd.resolution="lr" feeds the LR residual to the network and so needs a data term')


def config_to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as nested dicts, lists and scalars, as JSON stores it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    return plain(dataclasses.asdict(config))


def config_from_dict(cls: type[T], values: dict[str, Any], prefix: str = "") -> T:
    """Builds the configuration `cls` from what `config_to_dict` returned.

    Raises:
      ConfigError: If a field is unknown, or a value is not of its field's type or range.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        known = ", ".join(hints)
        raise ConfigError(f"unknown field {', '.join(prefix + u for u in unknown)}; the fields are {known}")
    kwargs: dict[str, Any] = {}
    for name, value in values.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            value = config_from_dict(typing.cast(type, kind), value, f"{prefix}{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[name] = value
    return cls(**kwargs)


def _at_least(config: Any, name: str, least: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def _check_choices(config: Any) -> None:
    for name, kind in typing.get_type_hints(type(config)).items():
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        if choices and getattr(config, name) not in choices:
            raise ConfigError(f"{name} is {getattr(config, name)!r}; choose one of {', '.join(map(repr, choices))}")
