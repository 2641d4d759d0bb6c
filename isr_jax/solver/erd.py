"""ERD: the encoder - resnet - decoder network, which estimates the noise that a stage removes."""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from isr_jax.config import ERDConfig
from isr_jax.solver.layers import INPUT_AXIS, Conv, Inside, PReLU, ResidualBlock, activate_convolve, only_inside

NOISE_UNIT = 50
"""Noise level, on 0..255, that is 1 on the noise plane of a network at LR resolution, whose pictures are on 0..1."""


class ERD(nnx.Module):
    """Encoder, residual blocks that may run on their own output (feedback), decoder.

    At "hr" resolution it maps pictures to noise images pixel by pixel, as released. At "lr" resolution it works on LR
    pixels: its input is the picture after space-to-depth beside the LR residual H x - y (and, if carried, the features
    of the stage before), its output goes through depth-to-space; the same convolutions cost scale^2 times less.

    References: Umer, Foresti & Micheloni 2020 (arXiv 2009.04809); for depth-to-space Shi et al. 2016 (1609.05158).
    Examples:
      >>> from flax import nnx
      >>> from isr_jax.config import ERDConfig
      >>> shape = ERDConfig(features=3, num_blocks=1, feedback_steps=0, kernel_size=3)
      >>> erd = isr_jax.ERD(shape, channels=3, scale=2, rngs=nnx.Rngs(0))
      >>> noise, _ = erd(jnp.zeros((1, 8, 8, 3)))
      >>> noise.shape
      (1, 8, 8, 3)
    """

    def __init__(
        self,
        config: ERDConfig,
        *,
        channels: int,
        scale: int,
        rngs: nnx.Rngs,
        scales: tuple[int, ...] = (),
        pictures: int = 1,
    ):
        """Builds the network.

        Args:
          config: Its shape.
          channels: Of the pictures.
          scale: HR size over LR size.
          rngs: Random numbers of the first parameters.
          scales: Of a network for several; `encoder` and `decoder` are then one for each, named "x2" and so on.
          pictures: How many pictures are one input, beside each other in its channels; at LR resolution.
        """
        self.config, self.scale, self.scales = config, scale, scales
        features, border, weight_norm = config.features, config.border, config.weight_norm
        fast = config.precision == "tf32"
        self._dtype = jnp.dtype("float32" if fast else config.precision)
        precision = lax.Precision.DEFAULT if fast else lax.Precision.HIGHEST
        conv = functools.partial(Conv, weight_norm=weight_norm, precision=precision, rngs=rngs)
        at_lr = config.resolution == "lr"

        def encoder(scale: int) -> Conv:
            inputs = channels * (pictures * scale**2 + 1 if at_lr else pictures)
            inputs += config.noise_plane + config.error_plane + config.carry_features * features
            return conv(inputs, features, config.kernel_size, border=border)

        self.encoder: Any = nnx.Dict({f"x{s}": encoder(s) for s in scales}) if scales else encoder(scale)
        if config.feedback_steps:
            self.compress_prelu = PReLU(2 * features)
            self.compress = conv(2 * features, features, 1, border=border)
        # Deep stacks without normalisation of activations start better with small branches (Lim et al. 2017).
        branch_init = nnx.initializers.variance_scaling(0.5, "fan_in", "normal") if at_lr else None
        self.blocks = nnx.List(
            ResidualBlock(
                features,
                border=border,
                weight_norm=weight_norm,
                shortcut=config.first_shortcut or i > 0,
                kernel_init=branch_init,
                precision=precision,
                rngs=rngs,
            )
            for i in range(config.num_blocks)
        )
        # Without weight normalisation (0 / 0) the LR network starts as the identity of the solver.
        zero_start = at_lr and not weight_norm

        def decoder(scale: int) -> Conv:
            return conv(
                features,
                channels * scale**2 if at_lr else channels,
                config.kernel_size,
                border="zero",
                norm_axis=INPUT_AXIS,  # PyTorch's decoder is a transposed convolution
                kernel_init=nnx.initializers.zeros if zero_start else None,
            )

        self.decoder: Any = nnx.Dict({f"x{s}": decoder(s) for s in scales}) if scales else decoder(scale)

    @property
    def uses_noise_std(self) -> bool:
        """Whether the noise level is one of its inputs."""
        return self.config.noise_plane

    @property
    def uses_error_std(self) -> bool:
        """Whether the level of other errors is, too: it is then called with both levels of each picture."""
        return self.config.error_plane

    def heads(self, scale: int) -> tuple[Conv, Conv]:
        """Returns the encoder and the decoder of a scale."""
        if not self.scales:
            return self.encoder, self.decoder
        return self.encoder[f"x{scale}"], self.decoder[f"x{scale}"]

    def macs_per_pixel(self, scale: int) -> float:
        """Returns the multiply-adds of the convolutions per HR pixel: 1.52 million for the released network."""
        repeated = [conv for block in self.blocks for conv in (block.conv1, block.conv2)]
        if self.config.feedback_steps:
            repeated.append(self.compress)
        runs = max(1, self.config.feedback_steps)
        macs = sum(conv.macs for conv in self.heads(scale)) + runs * sum(conv.macs for conv in repeated)
        return macs / scale**2 if self.config.resolution == "lr" else float(macs)

    @property
    def reach(self) -> int:
        """How far an output pixel sees, in LR pixels."""
        runs = max(1, self.config.feedback_steps)
        own = 2 * (self.config.kernel_size // 2) + 2 * self.config.num_blocks * runs
        return own if self.config.resolution == "lr" else math.ceil(own / self.scale)

    @property
    def can_be_padded(self) -> bool:
        """Whether pictures may be smaller than their arrays (`inside`): where no border is reflected."""
        return self.config.border == "zero" and self.config.resolution == "lr"

    @property
    def features_per_lr_pixel(self) -> int:
        """How many numbers a feature map has for each LR pixel."""
        return self.config.features * (1 if self.config.resolution == "lr" else self.scale**2)

    def init_carry(self, lr_shape: tuple[Any, ...]) -> Array | None:
        """Returns what the first stage is handed, for LR pictures of a shape (N, h, w, C): no features yet."""
        return jnp.zeros((*lr_shape[:3], self.config.features), jnp.float32) if self.config.carry_features else None

    def __call__(
        self,
        image: Float[Array, "batch height width seen"],
        lr_residual: Float[Array, "batch lr_height lr_width channels"] | None = None,
        noise_std: Float[Array, " batch"] | Float[Array, "batch 2"] | None = None,
        carried: Float[Array, "batch lr_height lr_width features"] | None = None,
        inside: Inside = None,
    ) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch rows cols features"] | None]:
        """Estimates the noise in each image.

        Args:
          image: The picture after the data step, 0..255, and behind it in the channels what else the solver shows.
          lr_residual: H x - y on the same scale; at LR resolution only.
          noise_std: Noise level per image on the same scale, only if the configuration has a noise plane; with an error
            plane both levels.
          carried: Features of the previous stage; only if the configuration carries them.
          inside: Where the pictures are, if they are smaller than their arrays; only if `can_be_padded`.
        Returns: The noise estimate (shape and unit of the picture), and the last features if they are carried.
        Raises:
          ValueError: If one of its inputs is missing.
        """
        at_lr, scale = self.config.resolution == "lr", self.scale
        parts: list[Array] = [image]
        if at_lr:
            if lr_residual is None:
                raise ValueError("an ERD at LR resolution needs `lr_residual`, H x - y")
            scale = image.shape[1] // lr_residual.shape[1]
            parts = [space_to_depth(image, scale) / 255, lr_residual / 255]
        encoder, decoder = self.heads(scale)
        if self.config.noise_plane:
            if noise_std is None:
                raise ValueError("an ERD with a noise plane needs `noise_std`, a level for each picture")
            planes = noise_std.reshape(noise_std.shape[0], 1, 1, -1) / (NOISE_UNIT if at_lr else 1)
            parts.append(jnp.broadcast_to(planes, (*parts[0].shape[:3], planes.shape[3])))
        if carried is not None:
            parts.append(carried)
        x = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else image
        encoded = encoder(only_inside(x, inside).astype(self._dtype))
        hidden = self._run_blocks(encoded, inside) if self.config.feedback_steps == 0 else encoded
        for _ in range(self.config.feedback_steps):
            # Note: the released code concatenates the features with themselves, the paper's figure with the encoder's.
            other = hidden if self.config.feedback_input == "hidden" else encoded
            both = jnp.concatenate([hidden, other], axis=-1)
            hidden = self._run_blocks(activate_convolve(self.compress_prelu, self.compress, both), inside)
        noise = decoder(only_inside(hidden, inside), dtype=jnp.float32)
        features = hidden.astype(jnp.float32) if self.config.carry_features else None
        return (depth_to_space(noise, scale) * 255 if at_lr else noise), features

    def _run_blocks(self, x: Array, inside: Inside) -> Array:
        for block in self.blocks:
            x = block(x, inside)
        return x


def space_to_depth(
    x: Float[Array, "batch height width channels"], scale: int
) -> Float[Array, "batch lr_height lr_width depth"]:
    """Moves each scale x scale block of pixels to the channels of one pixel, ordered (row, column, channel)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // scale, scale, w // scale, scale, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // scale, w // scale, scale * scale * c)


def depth_to_space(
    x: Float[Array, "batch lr_height lr_width depth"], scale: int
) -> Float[Array, "batch height width channels"]:
    """The inverse of `space_to_depth`."""
    n, h, w, d = x.shape
    c = d // scale**2
    x = x.reshape(n, h, w, scale, scale, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * scale, w * scale, c)


def for_other_scale(
    head: dict[str, np.ndarray], scale: int, new_scale: int, *, channels: int, pictures: int = 1
) -> dict[str, np.ndarray]:
    """Adapts the encoder and the decoder of an ERD at LR resolution to another scale; nothing else depends on it.

    The new encoder sees in a picture what the old one would see in the picture enlarged by areas, and the new decoder
    writes the averages, by area, of what the old one would write.

    Args:
      head: Parameters by dotted path, as "encoder.kernel"; per-stage ones have a leading axis.
      scale: Of the parameters.
      new_scale: Wanted.
      channels: Of the pictures.
      pictures: How many the encoder sees.
    Returns: The encoder's kernel, and the decoder's kernel and bias.
    """
    old, new = np.arange(scale + 1) / scale, np.arange(new_scale + 1) / new_scale
    overlap = np.minimum(old[1:, None], new[1:]) - np.maximum(old[:-1, None], new[:-1])  # of sub-pixels along a side
    overlap = np.maximum(overlap, 0).astype(np.float32)
    areas = np.kron(overlap, overlap)
    seen = np.kron(areas, np.eye(channels * pictures, dtype=np.float32))  # (row, column, channel)
    written = np.kron(areas, np.eye(channels, dtype=np.float32)) * new_scale**2
    picture, rest = np.split(head["encoder.kernel"], [channels * pictures * scale**2], axis=-2)
    return {
        "encoder.kernel": np.concatenate([seen.T * scale**2 @ picture, rest], axis=-2),
        "decoder.kernel": head["decoder.kernel"] @ written,
        "decoder.bias": head["decoder.bias"] @ written,
    }
