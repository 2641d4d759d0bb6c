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
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the features and the convolutions; weights, norms, medians and pictures are float32 always."""
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
    final_data_step: bool = False
    """Whether one more step on the data term follows the last stage, so that the result agrees with the observation."""
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
        if self.final_data_step and self.data_term == "none":
            raise ConfigError("model.final_data_step needs a data term; set model.data_term")
        if self.align_corners and self.data_term != "released_bilinear":
            raise ConfigError('model.align_corners has a meaning only with model.data_term="released_bilinear"')


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How LR patches are made from HR patches in the step, beside the bicubic reduction; nothing by default."""

    blur_std: tuple[float, float] = (0.0, 0.0)
    """Range of the standard deviation of a Gaussian blur, HR pixels."""
    anisotropic: bool = False
    """Whether the blur has two standard deviations and a direction."""
    noise_std: tuple[float, float] = (0.0, 0.0)
    """Range of the level of white noise, on the 0..255 scale."""
    jpeg_quality: tuple[float, float] = (0.0, 0.0)
    """Range of the quality at which the LR patch is compressed, 1 to 100; (0, 0): not compressed."""

    def __post_init__(self) -> None:
        for name in ("blur_std", "noise_std", "jpeg_quality"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name == "jpeg_quality" and not (high == 0 or 1 <= low <= high <= 100)):
                raise ConfigError(f"synthesis.{name} is {low, high}; it must be a range, the smaller value first")

    @property
    def active(self) -> bool:
        """Whether LR patches are made in the step, instead of cut from the LR pictures."""
        return max(*self.blur_std, *self.noise_std, *self.jpeg_quality) > 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to train on, and how patches are drawn from it."""

    train: tuple[str, ...] = ()
    """Folders of HR pictures (or of HR/ and LRx<scale>/), or DIV2K by its TFDS name, as "div2k/bicubic_x4"."""
    cache_dir: str = ""
    """Where sub-images are kept between runs; empty: $ISR_JAX_CACHE, else ~/.cache/isr_jax."""
    tile_size: int = 480
    """Largest side of a sub-image, HR pixels; rounded down to a multiple of the scale."""
    patch_size: int = 32
    """Side of the training patches, LR pixels."""
    batch_size: int = 16
    """Patches in a step, over all devices and processes."""
    placement: Literal["stream", "memory"] = "stream"
    """Read sub-images from disk by tf.data, or hold all of them as uint8 on the device and crop there."""
    sampling: Literal["epochs", "texture"] = "epochs"
    """Every sub-image once an epoch, or drawn in proportion to sqrt(picture area) x texture (only in memory)."""
    candidates: int = 1
    """Random patches drawn from a sub-image, of which the one with the most contrast is used."""
    augment: bool = True
    """Whether patches are flipped and rotated by multiples of 90 degrees."""
    shuffle_buffer: int = 1024
    """Sub-images among which a stream shuffles; at least as many as there are: a uniform permutation."""
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    """Blur, noise and JPEG that are drawn for each patch in the step."""
    strict: bool = False
    """Whether an unreadable picture is an error; otherwise it is named and skipped."""

    def __post_init__(self) -> None:
        for name in ("tile_size", "patch_size", "batch_size", "candidates", "shuffle_buffer"):
            _at_least(self, name, 1)
        _no_string(self, "train")
        _check_choices(self)
        if self.sampling == "texture" and self.placement != "memory":
            raise ConfigError('data.sampling="texture" draws at random and needs data.placement="memory"')


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training criterion, on intensities in 0..1."""

    kind: Literal["l1", "l2", "charbonnier"] = "l1"
    """Mean absolute error, mean squared error, or mean of sqrt(error^2 + epsilon^2)."""
    epsilon: float = 1e-3
    """Of the Charbonnier loss."""
    stages: Literal["last", "all"] = "last"
    """Which stages' pictures are compared with the HR picture."""
    earlier_weight: float = 0.5
    """Weight of each stage (stages="all") or window (truncated back-propagation) that is not the last."""
    window: int = 0
    """Truncated back-propagation: an update after every `window` stages (k1); 0: one update, after all stages."""
    depth: int = 0
    """Truncated back-propagation: how many stages each update sees (k2); 0: as many as `window`."""

    def __post_init__(self) -> None:
        _at_least(self, "window", 0)
        _at_least(self, "depth", 0)
        _positive(self, "epsilon")
        _check_choices(self)
        if self.depth and not self.window:
            raise ConfigError("loss.depth has a meaning only with loss.window")
        if self.window and self.stages == "all":
            raise ConfigError('loss.window compares each window\'s last stage; it needs loss.stages="last"')
        if self.depth > self.window and self.depth % self.window:
            raise ConfigError(
                f"loss.depth is {self.depth}; beyond loss.window it must be a multiple of it, {self.window}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and the average of the weights."""

    kind: Literal["adam", "amsgrad", "adamw", "muon"] = "adam"
    """The update rule; "muon" orthogonalises the updates of the residual blocks' kernels, the rest is Adam's."""
    b1: float = 0.9
    """Decay of the first moment (of "muon" for what is Adam's; its own momentum is 0.95)."""
    b2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Of "adamw" alone."""
    clip_norm: float = 0.0
    """Largest global norm of the gradient, for a loss on 0..1; 0: not clipped."""
    accumulate: int = 1
    """Parts in which a batch is computed, one after the other, before its one update."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, those that are evaluated and exported; 0: the weights themselves."""

    def __post_init__(self) -> None:
        _at_least(self, "accumulate", 1)
        _positive(self, "epsilon")
        _check_choices(self)
        for name in ("b1", "b2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} is {getattr(self, name)}; it must be at least 0 and less than 1")
        if self.clip_norm < 0 or self.weight_decay < 0:
            raise ConfigError("optimizer.clip_norm and optimizer.weight_decay cannot be negative")
        if self.weight_decay and self.kind != "adamw":
            raise ConfigError('optimizer.weight_decay has a meaning only with optimizer.kind="adamw"')


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the steps."""

    kind: Literal["constant", "multistep", "cosine"] = "cosine"
    """What happens after the warm-up."""
    learning_rate: float = 1e-3
    """The largest learning rate."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from 0."""
    final_fraction: float = 0.01
    """Of "cosine": the last rate, as a fraction of the largest."""
    milestones: tuple[float, ...] = (0.5, 0.8)
    """Of "multistep": when the rate falls, as fractions of all steps."""
    factor: float = 0.1
    """Of "multistep": by what the rate is multiplied at each milestone."""

    def __post_init__(self) -> None:
        _at_least(self, "warmup_steps", 0)
        _positive(self, "learning_rate")
        _check_choices(self)
        if any(not 0 < m < 1 for m in self.milestones):
            raise ConfigError(f"schedule.milestones is {self.milestones}; each must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Which devices and processes share a step."""

    mapping: Literal["shard_map", "pmap"] = "shard_map"
    """How the per-device step is mapped; both compute the same."""
    devices: int = 0
    """Local devices to use; 0: all."""
    coordinator: str = ""
    """HOST:PORT of process 0 when several processes train together; empty: one process (or TPU, found by itself)."""
    num_processes: int = 1
    """Processes that train together."""
    process_index: int = 0
    """Which of them this one is."""
    timeout: int = 300
    """Seconds within which all processes must have found each other."""

    def __post_init__(self) -> None:
        _at_least(self, "devices", 0)
        _at_least(self, "num_processes", 1)
        _at_least(self, "process_index", 0)
        _at_least(self, "timeout", 1)
        _check_choices(self)
        if self.process_index >= self.num_processes:
            raise ConfigError(
                f"parallel.process_index is {self.process_index}; with parallel.num_processes="
                f"{self.num_processes} it is at most {self.num_processes - 1}"
            )
        if self.num_processes > 1 and not self.coordinator:
            raise ConfigError("parallel.num_processes needs parallel.coordinator, as localhost:12345")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is saved, and when."""

    every: int = 1000
    """Steps between two saves; every evaluation saves, too."""
    keep: int = 2
    """How many of the last checkpoints are kept, beside the best."""
    allow_changes: bool = False
    """Whether a run may be resumed with another seed, data or configuration than it was started with."""
    init_from: str = ""
    """Model file or run folder whose weights a new run starts from, at LR resolution also one of another scale;
    parameters of other shapes keep their start."""

    def __post_init__(self) -> None:
        _at_least(self, "every", 1)
        _at_least(self, "keep", 1)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What is measured during training."""

    data: tuple[str, ...] = ()
    """Validation folders, HR/ with LRx<scale>/ (or LR is made by imresize, not by data.synthesis: give LRx<scale>/
    where that is active); the first decides the best weights."""
    every: int = 1000
    """Steps between two evaluations."""
    log_every: int = 50
    """Steps between two records of the loss."""

    def __post_init__(self) -> None:
        _at_least(self, "every", 1)
        _at_least(self, "log_every", 1)
        _no_string(self, "data")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    data: DataConfig = field(default_factory=DataConfig)
    """What to train on."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The criterion."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """Devices and processes."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Saving and resuming."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """Validation and records."""
    steps: int = 0
    """Optimiser iterations of the whole run; 0: given by `epochs`."""
    epochs: float = 0.0
    """Passes over the data of the whole run, instead of `steps`."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    max_minutes: float = 0.0
    """Wall time after which a session saves and ends, to be resumed by the same command; 0: none."""
    on_nonfinite: Literal["stop", "skip", "lower_rate"] = "stop"
    """What follows a step that is not finite, beside the bundle that explains it: the run stops; goes on without that
    step's data; or also halves the learning rate from there on. It stops, too, after ten such steps in a row."""

    def __post_init__(self) -> None:
        _at_least(self, "steps", 0)
        _check_choices(self)
        if (self.steps > 0) == (self.epochs > 0):
            raise ConfigError("give the duration either as steps or as epochs, greater than 0")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed is {self.seed}; it must lie between 0 and 2^31 - 1")
        if self.data.batch_size % self.optimizer.accumulate:
            raise ConfigError(
                f"data.batch_size is {self.data.batch_size}; it must be divisible by optimizer.accumulate, "
                f"{self.optimizer.accumulate}"
            )
        if self.data.tile_size < self.data.patch_size * self.model.scale:
            raise ConfigError(
                f"data.tile_size is {self.data.tile_size} HR pixels; a patch of data.patch_size={self.data.patch_size} "
                f"at scale {self.model.scale} needs {self.data.patch_size * self.model.scale}"
            )
        if self.loss.window and self.model.final_data_step:
            raise ConfigError("loss.window compares the pictures between stages; it needs model.final_data_step=False")
        if self.loss.window and self.optimizer.accumulate > 1:
            raise ConfigError("loss.window makes several updates a batch; it needs optimizer.accumulate=1")
        if max(self.loss.window, self.loss.depth) > self.model.num_stages:
            raise ConfigError(f"loss.window and loss.depth cannot exceed model.num_stages, {self.model.num_stages}")
        if self.loss.window and self.model.num_stages % self.loss.window:
            raise ConfigError(
                f"loss.window is {self.loss.window}; it must divide model.num_stages, {self.model.num_stages}"
            )


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


def _positive(config: Any, name: str) -> None:
    if not getattr(config, name) > 0:
        raise ConfigError(f"{name} is {getattr(config, name)!r}; it must be greater than 0")


def _no_string(config: Any, name: str) -> None:
    value = getattr(config, name)
    if isinstance(value, str):  # its letters would be taken for folders
        raise ConfigError(f'{name} is {value!r}; it must be a tuple, as ("{value}",)')


def _check_choices(config: Any) -> None:
    for name, kind in typing.get_type_hints(type(config)).items():
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        if choices and getattr(config, name) not in choices:
            raise ConfigError(f"{name} is {getattr(config, name)!r}; choose one of {', '.join(map(repr, choices))}")
