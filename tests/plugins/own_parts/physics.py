"""A physics: --model.physics own_parts.physics:Camera, and --degradation sampling=own_parts.physics:Camera."""

import isr_jax


class Camera(isr_jax.Physics):
    """Half as many pixels along each side, each the mean of the two on a diagonal."""

    scale = 2
    reach = 0

    def apply(self, x):
        return (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2
