"""A training run: data, devices, records, and what `isr_jax.config.optimization` describes."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from isr_jax.config.checks import (
    Config,
    ConfigError,
    Count,
    Interval,
    Natural,
    NotNegative,
    Steps,
    Within,
)
from isr_jax.config.degradation import SYNTHESIS_REMOVED, DegradationConfig
from isr_jax.config.model import ModelConfig
from isr_jax.config.optimization import LossConfig, OptimizerConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """What to train on, and how patches are drawn from it.

    Examples:
      >>> from isr_jax.config import DataConfig
      >>> DataConfig(train=("photos/",), patch_size=48, placement="memory").batch_size
      16
    """

    group: ClassVar[str] = "data."
    removed: ClassVar[dict[str, str]] = {"synthesis": SYNTHESIS_REMOVED}

    train: tuple[str, ...] = ()
    """Folders of HR pictures (or of HR/ and LRx<scale>/; else LR is made as for `eval.data`), packs of them (isr-jax
    pack), DIV2K by its TFDS name, as "div2k/bicubic_x4", or module:Class, a sequence of one's own
    (`isr_jax.training.own_pictures`)."""
    cache_dir: str = ""
    """Where sub-images are kept between runs; empty: $ISR_JAX_CACHE, else isr_jax in $XDG_CACHE_HOME or ~/.cache."""
    tile_size: Count = 480
    """Largest side of a sub-image, HR pixels; rounded down to a multiple of the scale."""
    patch_size: Count = 32
    """Side of the training patches, LR pixels of the model's `scale`; HR patches are as large for its other scales."""
    scale_cycle: tuple[Count, ...] = ()
    """Of a model of several scales: the scale of each step in turn; empty: all, one after the other. A batch is cut to
    as many LR pixels as one of the largest scale has."""
    batch_size: Count = 16
    """Patches in a step, over all devices and processes."""
    placement: Literal["stream", "memory"] = "stream"
    """Read sub-images from disk by tf.data, or hold all of them as uint8 on the device and crop there, without
    tensorflow."""
    sampling: Literal["epochs", "texture"] = "epochs"
    """Every sub-image once an epoch, or drawn in proportion to sqrt(picture area) x texture (only in memory)."""
    candidates: Count = 1
    """Random patches drawn from a sub-image, of which the one with the most contrast is used."""
    augment: bool = True
    """Whether patches are flipped and rotated by multiples of 90 degrees. The model's own physics is not turned with
    them: switch it off for one that is another on turned pictures."""
    shuffle_buffer: Count = 1024
    """Sub-images among which a stream shuffles; at least as many as there are: a uniform permutation."""
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    """Physics that are drawn for each patch in the step; none by default: LR patches are cut from the LR pictures."""
    strict: bool = False
    """Whether an unreadable picture is an error; otherwise it is named and skipped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling == "texture" and self.placement != "memory":
            raise ConfigError('data.sampling="texture" draws at random and needs data.placement="memory"')

    def drawn_size(self, scale: int) -> int:
        """Returns the side of what is drawn for a patch, LR pixels; its margin is cut off when it is degraded."""
        return self.patch_size + 2 * self.degradation.margin(scale)


@dataclass(frozen=True, kw_only=True)
class ParallelConfig(Config):
    """Which devices and processes share a step.

    Examples:
      >>> from isr_jax.config import ParallelConfig
      >>> ParallelConfig(coordinator="10.0.0.1:1234", num_processes=2, process_index=1).timeout
      300
    """

    group: ClassVar[str] = "parallel."

    mapping: Literal["shard_map", "pmap"] = "shard_map"
    """How the per-device step is mapped; both compute the same."""
    devices: Natural = 0
    """Local devices to use; 0: all."""
    coordinator: str = ""
    """HOST:PORT of process 0 when several processes train together; empty: one process (or TPU, found by itself)."""
    num_processes: Count = 1
    """Processes that train together."""
    process_index: Natural = 0
    """Which of them this one is."""
    timeout: Count = 300
    """Seconds within which all processes must have found each other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process_index >= self.num_processes:
            raise ConfigError(
                f"parallel.process_index is {self.process_index}; with parallel.num_processes="
                f"{self.num_processes} it is at most {self.num_processes - 1}"
            )
        if self.num_processes > 1 and not self.coordinator:
            raise ConfigError("parallel.num_processes needs parallel.coordinator, as localhost:12345")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Config):
    """What is saved, and when.

    Examples:
      >>> from isr_jax.config import CheckpointConfig
      >>> CheckpointConfig(every="10min", keep=3).every
      '10min'
    """

    group: ClassVar[str] = "checkpoint."

    every: Interval = "60s"
    """Between two saves: steps, as 500, or time, as 60s, 10min or 1h; every evaluation saves, too. A run that is killed
    loses what it has done since the last one."""
    keep: Count = 2
    """How many of the last checkpoints are kept, beside the best."""
    allow_changes: bool = False
    """Whether a run may be resumed with another seed, data or configuration than it was started with."""
    init_from: str = ""
    """Model file or run folder whose weights a new run starts from, at LR resolution also one of another scale;
    parameters of other shapes keep their start."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Config):
    """What is measured during training.

    Examples:
      >>> from isr_jax.config import EvalConfig
      >>> EvalConfig(data=("Set5/",), every=500).log_every
      50
    """

    group: ClassVar[str] = "eval."

    data: tuple[str, ...] = ()
    """Validation folders, HR/ with LRx<scale>/; without, LR is made by a model.physics of one's own ("module:Name"),
    else by imresize, which a model that needs the blur is told, and never by data.degradation: give LRx<scale>/ where
    that is active. The first folder decides the best weights."""
    every: Interval = 1000
    """Between two evaluations: steps, or time, as 10min. There is one more after the last step, and where `max_minutes`
    ends a session, if there is time for one as long as the last."""
    log_every: Interval = 50
    """Between two records of the loss: steps, or time, as 5s."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """A training run.

    Examples:
      >>> from isr_jax.config import DataConfig, ModelConfig, TrainConfig
      >>> config = TrainConfig(model=ModelConfig(scale=2), data=DataConfig(train=("photos/",)), steps=1000)
      >>> TrainConfig(steps=1000, epochs=2.0)
      Traceback (most recent call last):
      isr_jax.config.checks.ConfigError: give the duration either as steps or as epochs, greater than 0
    """

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
    steps: Steps = 0
    """Optimiser iterations of the whole run; 0: given by `epochs`."""
    epochs: NotNegative = 0.0
    """Passes over the data of the whole run, instead of `steps`."""
    steps_per_call: Annotated[int, Within(1, 10_000)] = 1
    """Largest number of steps in one call of the compiled program, in the same bits as one by one: small networks are
    faster with 50 or so, where what happens between two calls counts. More than 1 needs data.placement="memory"."""
    precision: Literal["model", "float32", "tf32", "bfloat16"] = "model"
    """Of the network in the training step alone; model: model.prior.precision, with which the model is also evaluated
    and saved. Weights, moments, data steps, LR patches and losses are float32 always."""
    seed: Annotated[int, Within(0, 2**31 - 1)] = 0
    """Seed of the initial weights and of the order of the data."""
    max_minutes: NotNegative = 0.0
    """Wall time within which a session ends, to be resumed by the same command; 0: none. What its last evaluation and
    save need is kept back, by their last duration."""
    on_nonfinite: Literal["stop", "skip", "lower_rate"] = "stop"
    """What follows a step that is not finite, beside the bundle that explains it: the run stops; goes on without that
    step's data; or also halves the learning rate from there on. It stops, too, after ten such steps in a row."""

    @property
    def trained_model(self) -> ModelConfig:
        """The model as the training step computes it."""
        if self.precision == "model":
            return self.model
        prior: Any = self.model.prior
        return dataclasses.replace(self.model, prior=dataclasses.replace(prior, precision=self.precision))

    @property
    def camera(self) -> str:
        """A physics of one's own that makes LR pictures where there are none, "module:Name"; empty: imresize does."""
        own = ":" in self.model.physics and not self.data.degradation.active
        return self.model.physics if own else ""

    @property
    def scale_cycle(self) -> tuple[int, ...]:
        """The scale of each step in turn."""
        return self.data.scale_cycle or self.model.all_scales

    @property
    def data_scale(self) -> int:
        """The scale at which pairs are read and drawn: the least common multiple of the model's."""
        return math.lcm(*self.model.all_scales)

    @property
    def drawn(self) -> DataConfig:
        """How patches are drawn at `data_scale`."""
        return dataclasses.replace(self.data, patch_size=self.data.patch_size * self.model.scale // self.data_scale)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.steps > 0) == (self.epochs > 0):
            raise ConfigError("give the duration either as steps or as epochs, greater than 0")
        if self.schedule.kind == "wsd" and self.schedule.warmup_steps + self.schedule.decay_steps > self.steps:
            raise ConfigError(
                f'schedule.kind="wsd" warms up for {self.schedule.warmup_steps} steps and decays over '
                f"schedule.decay_steps={self.schedule.decay_steps}; set steps to at least as many"
            )
        if self.precision != "model" and not hasattr(self.model.prior, "precision"):
            raise ConfigError("precision is that of an ERD; model.prior is another network: leave it at 'model'")
        if self.data.batch_size % self.optimizer.accumulate:
            raise ConfigError(
                f"data.batch_size is {self.data.batch_size}; it must be divisible by optimizer.accumulate, "
                f"{self.optimizer.accumulate}"
            )
        if self.steps_per_call > 1 and self.data.placement == "stream":
            raise ConfigError(
                f"steps_per_call is {self.steps_per_call}; a stream is read step by step: set it to 1, or "
                'data.placement to "memory"'
            )
        self._check_scales()
        drawn = self.drawn.drawn_size(self.data_scale) * self.data_scale
        if self.data.tile_size // self.data_scale * self.data_scale < drawn:
            raise ConfigError(
                f"data.tile_size is {self.data.tile_size} HR pixels; a patch of data.patch_size={self.data.patch_size} "
                f"at scale {self.model.scale} needs {drawn}"
            )
        if self.data.degradation.active and self.data.degradation.told == "physics" and self.model.physics == "none":
            raise ConfigError('data.degradation.told="physics" needs a model with data steps; set model.physics')
        degradation, side = self.data.degradation, self.data.patch_size * self.model.scale
        within = degradation.told == "physics" or degradation.border != "margin"  # a kernel is applied to a patch
        if degradation.active and within and degradation.kernel_size > side:
            raise ConfigError(
                f"data.degradation.kernel_size is {degradation.kernel_size}, larger than a patch of {side} HR pixels; "
                f"set data.patch_size to at least {-(-degradation.kernel_size // self.model.scale)}, or a smaller one"
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

    def _check_scales(self) -> None:
        if unknown := set(self.data.scale_cycle) - set(self.model.all_scales):
            raise ConfigError(f"data.scale_cycle names x{min(unknown)}; the model has {self.model.all_scales}")
        if not self.model.scales:
            return
        if not self.data.degradation.active or self.data.degradation.told != "physics":
            raise ConfigError("model.scales needs LR patches made in the step; give data.degradation its weights")
        if self.data.placement != "memory":
            raise ConfigError('model.scales needs data.placement="memory"')
        side = self.data.patch_size * self.model.scale
        if side % self.data_scale:
            raise ConfigError(
                f"data.patch_size is {self.data.patch_size}, {side} HR pixels; all of model.scales must divide them: "
                f"{-(-side // self.data_scale) * self.data_scale} would do"
            )
