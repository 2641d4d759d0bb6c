"""The solver and its network, as configurations."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from isr_jax.config.checks import Config, ConfigError, Count, Natural, Positive
from isr_jax.config.names import check_name, locate, running

PRIOR_MEMBERS = ("uses_noise_std", "reach", "features_per_lr_pixel", "macs_per_pixel", "init_carry")
"""What a network must have beside its call, as `isr_jax.solver.erd.ERD` explains them."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig(Config):
    """A network of the proximal step. A subclass, a frozen dataclass of its own, is all that another network needs.

    Examples:
      >>> from dataclasses import dataclass
      >>> from typing import ClassVar
      >>> from isr_jax.config import ModelConfig, PriorConfig
      >>> @dataclass(frozen=True, kw_only=True)
      ... class UNetConfig(PriorConfig):
      ...     implementation: ClassVar[str] = "my_package.unet:UNet"
      ...     depth: int = 3
      >>> ModelConfig(prior=UNetConfig(depth=4)).prior.depth
      4
    """

    group: ClassVar[str] = "model.prior."
    implementation: ClassVar[str]
    """What is built, as "module:Class": a module of Flax NNX with a call and the members `PRIOR_MEMBERS`, as
    `isr_jax.solver.erd.ERD` has them."""

    def build(self, *, channels: int, scale: int, rngs: Any, **several: Any) -> Any:
        """Builds the network.

        Args:
          channels: Of the pictures.
          scale: HR size over LR size.
          rngs: Random numbers of its first parameters, `flax.nnx.Rngs`.
          several: `scales` and `pictures`, where a model has several scales, or a stage is shown several pictures.
        """
        make = locate(self.implementation, "the prior's implementation")
        with running(self.implementation, "the prior's implementation"):
            prior = make(self, channels=channels, scale=scale, rngs=rngs, **several)
        if absent := [name for name in PRIOR_MEMBERS if not hasattr(prior, name)]:
            raise ConfigError(f"{self.implementation} lacks {', '.join(absent)}: see docs/reference/extending.md")
        return prior


@dataclass(frozen=True, kw_only=True)
class ERDConfig(PriorConfig):
    """The encoder - resnet - decoder network, the prior of the solver. The defaults are the released network.

    Examples:
      >>> from isr_jax.config import ERDConfig
      >>> ERDConfig(resolution="lr", num_blocks=14, feedback_steps=0, border="zero", weight_norm=False).features
      64
    """

    implementation: ClassVar[str] = "isr_jax.solver.erd:ERD"

    features: Count = 64
    """Channels of the hidden feature maps."""
    num_blocks: Count = 5
    """Residual blocks, two 3x3 convolutions each."""
    feedback_steps: Natural = 4
    """How often the residual blocks run on their own output (S); 0 runs them once, without the 1x1 convolution."""
    feedback_input: Literal["hidden", "encoder"] = "hidden"
    """What is concatenated with the features: themselves (the released code) or the encoder's (the paper's figure)."""
    kernel_size: Count = 5
    """Width of the encoder's and the decoder's convolution, odd."""
    border: Literal["reflect", "zero"] = "reflect"
    """Border of the encoder's and the residual blocks' convolutions; the decoder's is always zero."""
    weight_norm: bool = True
    """Whether each convolution is weight-normalised (Salimans & Kingma 2016)."""
    first_shortcut: bool = False
    """Whether the first residual block adds its input; the released one does not."""
    resolution: Literal["hr", "lr"] = "hr"
    """Where the network works: on HR pixels (released), or on LR pixels between space-to-depth and depth-to-space."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of the convolutions' products, and, bfloat16, of the features; weights, norms, medians and pictures are float32
    always. tf32: an accelerator's fast products of float32 (10 bits on a GPU); on CPU the same as float32."""
    noise_plane: bool = False
    """Whether the network sees the noise level, as a constant plane beside the picture."""
    error_plane: bool = False
    """Whether it also sees the level of the error that the physics knows of, as of a JPEG file, in a plane behind."""
    carry_features: bool = False
    """Whether a stage also sees the features of the stage before; only at LR resolution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"model.prior.kernel_size is {self.kernel_size}; choose an odd number")
        if self.error_plane and not self.noise_plane:
            raise ConfigError("model.prior.error_plane needs model.prior.noise_plane=true")
        if self.carry_features and self.resolution != "lr":
            raise ConfigError('model.prior.carry_features needs model.prior.resolution="lr"')


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """The unrolled solver. The defaults are the released network, ISRResCNet x4.

    Examples:
      >>> from isr_jax.config import ModelConfig
      >>> ModelConfig(scale=2, num_stages=3, physics="bicubic", data_step="conjugate_gradient").all_scales
      (2,)
    """

    group: ClassVar[str] = "model."

    scale: Count = 4
    """Super-resolution factor, HR size over LR size; of a model of several scales, that where none is asked for."""
    scales: tuple[Count, ...] = ()
    """All factors of a model of several, `scale` among them, each with an encoder and a decoder of its own; empty:
    `scale` alone."""
    channels: int = 3
    """Colour channels of the pictures: 3 or 1."""
    num_stages: Count = 10
    """Unrolled iterations (K)."""
    per_stage: bool = False
    """Whether each stage has an ERD of its own; otherwise all share one (released)."""
    physics: str = "released_bicubic"
    """The observation model H where none is given with the pictures: a name of `isr_jax.physics.names` or module:Name;
    "released_*" are the released code's, the others have exact adjoints."""
    data_step: str = "gradient"
    """How a stage uses H: gradient, conjugate_gradient, closed_form (`isr_jax.solver.data_step`) or module:function."""
    data_step_iterations: Count = 10
    """Of "conjugate_gradient"."""
    data_step_place: Literal["before", "after"] = "before"
    """Whether a stage's data step comes before its proximal step (released) or after it."""
    data_weight: tuple[Positive, Positive] = (1e-2, 1e-3)
    """Of data steps that solve: first and last weight of the nearness to the picture before; learned from there."""
    start_weights: tuple[Positive, ...] = ()
    """Empty: stages start at the physics' own estimate. Else at the minimum in closed form of
    ||H x - y||^2 + w ||grad x||^2, for the middle one of these weights w, an odd number of them, learned from there;
    the prior sees the minima for the others beside the picture. The physics must be a blur and a decimation."""
    learned_step: bool = False
    """Of "gradient": whether the step size of each stage is learned, as a factor that starts at 1."""
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
    radius_range: tuple[Positive, Positive] = (2.0, 1.0)
    """First and last value of e^alpha, the homotopy: the projection radius in units of sigma sqrt(N - 1), positive."""
    remat: bool = False
    """Whether the backward pass recomputes each stage instead of storing its activations."""
    prior: PriorConfig = field(default_factory=ERDConfig)
    """The network of the proximal step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3):
            raise ConfigError(f"model.channels is {self.channels}; pictures have 3 channels (colour) or 1 (grey)")
        check_name(self.physics, "isr_jax.physics.names", "model.physics")
        check_name(self.data_step, "isr_jax.solver.data_step", "model.data_step")
        if self.scales and (self.scale not in self.scales or len(set(self.scales)) < len(self.scales)):
            raise ConfigError(
                f"model.scales is {self.scales}; name each scale once, model.scale={self.scale} among them"
            )
        if len(self.start_weights) % 2 == 0 and self.start_weights:
            raise ConfigError(
                f"model.start_weights has {len(self.start_weights)} weights; the middle one needs an odd number"
            )
        if self.start_weights and self.data_step != "closed_form":
            raise ConfigError('model.start_weights needs model.data_step="closed_form"')
        if self.data_step_place == "after" and self.final_data_step:
            raise ConfigError('model.final_data_step has no meaning with model.data_step_place="after"')
        if (self.scales or len(self.start_weights) > 1) and getattr(self.prior, "resolution", "lr") == "hr":
            raise ConfigError('model.scales and model.start_weights need a prior of model.prior.resolution="lr"')
        if self.final_data_step and self.physics == "none":
            raise ConfigError("model.final_data_step needs an observation model; set model.physics")
        if self.learned_step and self.data_step != "gradient":
            raise ConfigError('model.learned_step has a meaning only with model.data_step="gradient"')

    @property
    def all_scales(self) -> tuple[int, ...]:
        """The scales of the model."""
        return self.scales or (self.scale,)

    @property
    def erd(self) -> ERDConfig:
        """The prior, for what is only defined for an ERD.

        Raises:
          ConfigError: If the prior is another network.
        """
        if not isinstance(self.prior, ERDConfig):
            raise ConfigError(f"model.prior is {type(self.prior).__name__}; this is only possible with ERDConfig")
        return self.prior
