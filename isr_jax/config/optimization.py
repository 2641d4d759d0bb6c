"""What a run makes small, and how: the criterion, the optimiser, the learning rate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from isr_jax.config.checks import (
    MOST_STEPS,
    Config,
    ConfigError,
    Count,
    Decay,
    Fraction,
    Natural,
    NotNegative,
    Positive,
    Steps,
    Within,
)
from isr_jax.config.names import check_name, locate, locate_in, returning_a_number, running


@dataclass(frozen=True, kw_only=True)
class LossConfig(Config):
    """The training criterion, on intensities in 0..1.

    Examples:
      >>> from isr_jax.config import LossConfig
      >>> loss = LossConfig(kind="l2").build()
      >>> float(loss(jnp.full((1, 2, 2, 3), 255.0), jnp.zeros((1, 2, 2, 3))))
      1.0
    """

    group: ClassVar[str] = "loss."

    kind: str = "l1"
    """l1: mean absolute error; l2: mean squared error; charbonnier: mean of sqrt(error^2 + epsilon^2); l1_ssim: l1
    and 1 - SSIM, mixed; or module:Name, a function or class written like those of `isr_jax.training.losses`."""
    epsilon: Positive = 1e-3
    """Of the Charbonnier loss."""
    ssim_weight: Fraction = 0.1
    """Of l1_ssim: the part of 1 - SSIM, 0..1."""
    stages: Literal["last", "all"] = "last"
    """Which stages' pictures are compared with the HR picture."""
    earlier_weight: NotNegative = 0.5
    """Weight of each stage (stages="all") or window (truncated back-propagation) that is not the last."""
    window: Natural = 0
    """Truncated back-propagation: an update after every `window` stages (k1); 0: one update, after all stages."""
    depth: Natural = 0
    """Truncated back-propagation: how many stages each update sees (k2); 0: as many as `window`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.kind, "isr_jax.training.losses", "loss.kind")
        if self.depth and not self.window:
            raise ConfigError("loss.depth has a meaning only with loss.window")
        if self.window and self.stages == "all":
            raise ConfigError('loss.window compares each window\'s last stage; it needs loss.stages="last"')
        if self.depth > self.window and self.depth % self.window:
            raise ConfigError(
                f"loss.depth is {self.depth}; beyond loss.window it must be a multiple of it, {self.window}"
            )

    def build(self) -> Callable[..., Any]:
        """Returns the loss, a function of an estimate and its target on 0..255."""
        make = locate_in(self.kind, "isr_jax.training.losses", "loss.kind")
        with running(self.kind, "loss.kind"):
            loss = make(self)
        return returning_a_number(loss, self.kind, "loss.kind")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """The optimiser and the average of the weights.

    Examples:
      >>> from isr_jax.config import OptimizerConfig
      >>> rule = OptimizerConfig(kind="adamw", weight_decay=1e-4, clip_norm=1.0).build()
      >>> state = rule.init({"kernel": jnp.zeros(3)})
    """

    group: ClassVar[str] = "optimizer."

    kind: str = "adam"
    """The update rule: adam, amsgrad, adamw, muon (orthogonalises the updates of the kernels from features to features,
    the 1x1 of the feedback included; the rest is NAdam's); or module:Name, as `isr_jax.training.optimizers` has."""
    b1: Decay = 0.9
    """Decay of the first moment (of "muon" for what is NAdam's; its own momentum is 0.95)."""
    b2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: Positive = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NotNegative = 0.0
    """Decoupled, of "adamw" (all parameters) and "muon" (kernels); others have none."""
    clip_norm: NotNegative = 0.0
    """Largest global norm of the gradient, for a loss on 0..1; 0: not clipped."""
    accumulate: Count = 1
    """Parts in which a batch is computed, one after the other, before its one update."""
    ema_decay: Decay = 0.999
    """Decay of the averaged weights, those that are evaluated and exported; 0: the weights themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.kind, "isr_jax.training.optimizers", "optimizer.kind")
        if self.weight_decay and self.kind in ("adam", "amsgrad"):
            raise ConfigError(f"optimizer.{self.kind} has no weight_decay: set it to 0, or the kind to adamw or muon")

    def build(self) -> Any:
        """Returns the update rule without the learning rate, an `optax.GradientTransformation`.

        Its updates are to be multiplied by minus the rate.
        """
        make = locate_in(self.kind, "isr_jax.training.optimizers", "optimizer.kind")
        with running(self.kind, "optimizer.kind"):
            rule = make(self)
        if not hasattr(rule, "init") or not hasattr(rule, "update"):
            what = f"{rule!r:.80}; it must make an optax.GradientTransformation"
            raise ConfigError(f"optimizer.kind is {self.kind!r}, which makes {what}")
        complete = locate("isr_jax.training.optimizers:complete", "optimizer")
        return complete(rule, self.clip_norm, self.weight_decay, kernels_only=self.kind == "muon")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """The learning rate over the steps.

    Examples:
      >>> from isr_jax.config import ScheduleConfig
      >>> rate = ScheduleConfig(kind="cosine", learning_rate=1e-3, final_fraction=0.01).build(steps=100)
      >>> round(float(rate(0)), 6), round(float(rate(100)), 6)
      (0.001, 1e-05)
    """

    group: ClassVar[str] = "schedule."

    kind: str = "cosine"
    """What happens after the warm-up: constant, multistep, cosine, wsd (constant, and a decay at the end: for a length
    that is not known from the start); or module:function, as `isr_jax.training.schedules` has."""
    learning_rate: Positive = 1e-3
    """The largest learning rate."""
    warmup_steps: Steps = 0
    """Steps over which the rate rises linearly from 0."""
    final_fraction: Fraction = 0.01
    """Of "cosine" and "wsd": the last rate, as a fraction of the largest."""
    decay_steps: Annotated[int, Within(2, MOST_STEPS)] = 2000
    """Of "wsd": the last steps, over which the rate falls; 10 to 20 % of all are enough (arXiv 2405.18392)."""
    milestones: tuple[Annotated[float, Within(0, 1, open_least=True, open_most=True)], ...] = (0.5, 0.8)
    """Of "multistep": when the rate falls, as fractions of all steps."""
    factor: Positive = 0.1
    """Of "multistep": by what the rate is multiplied at each milestone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.kind, "isr_jax.training.schedules", "schedule.kind")

    def build(self, steps: int) -> Callable[..., Any]:
        """Returns the learning rate as a function of the step, for a run of `steps`."""
        make = locate_in(self.kind, "isr_jax.training.schedules", "schedule.kind")
        with running(self.kind, "schedule.kind"):
            rate = make(self, steps)
        return returning_a_number(rate, self.kind, "schedule.kind")
