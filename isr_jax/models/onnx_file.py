"""A model as one ONNX file, which runs in every program that has onnxruntime.

The graph is written from the model's configuration, operation by operation, with the solver's equations as they stand
in `isr_jax.solver.unrolled`. A converter of JAX programs (jax2onnx) was tried first: it does not know the project's
convolution, which is a primitive of its own; JAX does not trace mirrored borders at free heights and widths, so the
files would be good for one size; its newest release that goes with this project's JAX fails on it; and it brings
sixteen packages. Written so, a graph has a few hundred nodes, free sizes, exact borders, and needs onnx alone.
"""

from typing import Any, Literal

import numpy as np
from flax import nnx
from onnx import TensorProto, helper

from isr_jax.config import ConfigError, ERDConfig
from isr_jax.models.export import choose_scale
from isr_jax.models.onnx_fourier import ClosedForm
from isr_jax.models.onnx_graph import Graph, Tensor
from isr_jax.models.onnx_physics import KnownBlur, Operator, estimate_noise_std, make_operator, project_l2_ball
from isr_jax.physics.jpeg import Jpeg
from isr_jax.physics.names import make_physics, needs_kernel
from isr_jax.solver.data_step import LOG_UNIT
from isr_jax.solver.erd import NOISE_UNIT
from isr_jax.solver.layers import Conv, PReLU
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.version import package_version

Layout = Literal["nchw", "nhwc"]
Input = Literal["float", "uint8"]


def export_onnx(
    model: ISRResCNet,
    *,
    name: str = "model",
    license: str = "",
    scale: int | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout = "nchw",
    input: Input = "float",
) -> bytes:
    """Returns the model, weights included, as an ONNX file.

    Its input "input" are LR pictures, its output "output" the HR pictures, RGB (or grey, if the model is). N, height
    and width are free. A model that is told the blur has the inputs "kernel" (rows, cols), of sum 1, in HR pixels, its
    centre at (rows // 2, cols // 2), and "noise_std" (N,), a standard deviation on 0..255; others estimate the noise
    themselves, if they use it. One that is told the quality of JPEG files has the input "jpeg" (N,), int64, 0 where a
    picture was never compressed. The file's metadata say what it is; "reach" is how far an output pixel sees, in LR
    pixels: the overlap of exact tiles.

    Args:
      model: The model.
      name: Of the model, for the metadata.
      license: Of the weights, for the metadata.
      scale: One of the model's, if it has several; by default its first.
      size: Height and width of the LR pictures, if they shall be fixed.
      layout: Planar (N, C, height, width), or (N, height, width, C).
      input: Floating point on 0..1, the output neither rounded nor clipped; or 8 bits on 0..255, both ways.
    Raises:
      ConfigError: If the model has no such scale, or uses something that no graph is written for.
    """
    config = model.config
    scale = choose_scale(config, scale)
    graph = Graph(config.channels)
    height, width = size or ("height", "width")
    dtype = TensorProto.UINT8 if input == "uint8" else TensorProto.FLOAT

    def shape(height: int | str, width: int | str) -> list[int | str]:
        planar = [config.channels, height, width]
        return ["batch", *(planar if layout == "nchw" else [height, width, config.channels])]

    x = graph.input("input", dtype, shape(height, width))
    x = x if layout == "nchw" else x.op("Transpose", perm=[0, 3, 1, 2])
    x = x.cast() if input == "uint8" else x * 255.0
    hr = _Solver(graph, model.folded(), scale).solve(x)
    hr = (hr + 0.5).op("Floor").clip(0.0, 255.0).cast(dtype) if input == "uint8" else hr / 255.0
    hr = hr if layout == "nchw" else hr.op("Transpose", perm=[0, 2, 3, 1])
    hr_size = (size[0] * scale, size[1] * scale) if size else ("hr_height", "hr_width")
    content = graph.model(hr, dtype, shape(*hr_size), producer_name="isr_jax", producer_version=package_version())
    reach = None if needs_kernel(config.physics) else model.reach(make_physics(config.physics, scale=scale))
    facts = {
        "name": name,
        "scale": scale,
        "physics": config.physics,
        "license": license,
        "reach": "picture" if reach is None else reach,
        "parameters": sum(np.size(p[...]) for _, p in nnx.to_flat_state(nnx.state(model, nnx.Param))),
        "layout": layout,
        "range": "0..255" if input == "uint8" else "0..1",
        "isr_jax": package_version(),
    }
    helper.set_model_props(content, {key: str(value) for key, value in facts.items() if value != ""})
    return content.SerializeToString()


class _Solver:
    """Writes the stages of one model for one scale."""

    def __init__(self, graph: Graph, model: ISRResCNet, scale: int) -> None:
        config = model.config
        if not isinstance(config.prior, ERDConfig):
            raise ConfigError(f"model.prior is {type(config.prior).__name__}; ONNX graphs are written for ERDConfig")
        self.graph, self.model, self.scale, self.config = graph, model, scale, config
        self.kernel: Tensor | None = None
        self.noise_std: Tensor | None = None
        self.error_std: Tensor | None = None
        self.phase = (0, 0)
        if needs_kernel(config.physics):
            if config.physics != "blur" or not config.start_weights:
                raise ConfigError(
                    f'the physics "{config.physics}" with model.data_step="{config.data_step}" has no ONNX graph;'
                    " export it with --format stablehlo"
                )
            self.kernel = graph.input("kernel", TensorProto.FLOAT, ["kernel_rows", "kernel_cols"])
            noise_std = graph.input("noise_std", TensorProto.FLOAT, ["batch"])
            self.noise_std = noise_std.reshape(-1, 1, 1, 1)
            if config.erd.error_plane:
                levels = [0.0, *np.asarray(Jpeg(np.arange(1, 101)).error_std)]
                quality = graph.input("jpeg", TensorProto.INT64, ["batch"])
                self.error_std = graph.constant(np.asarray(levels, np.float32)).op("Gather", quality, axis=0)
                self.error_std = self.error_std.reshape(-1, 1, 1, 1)
            self.physics: Operator | KnownBlur | None = KnownBlur(self.kernel, scale)
            return
        physics = make_physics(config.physics, scale=scale)
        self.physics = make_operator(physics, config.physics) if physics.observes else None
        if model.data_step.solves:
            blur = physics.as_blur()
            if config.data_step != "closed_form" or blur is None or blur.periodic:
                raise ConfigError(
                    f'model.data_step="{config.data_step}" with the physics "{config.physics}" has no ONNX graph;'
                    " export it with --format stablehlo"
                )
            self.kernel, self.phase = graph.constant(np.asarray(blur.kernel[0, :, :, 0])), blur.phase

    def solve(self, y: Tensor) -> Tensor:
        """Returns the HR pictures of LR pictures, both (N, C, H, W) on 0..255."""
        config, model = self.config, self.model
        self.y = y
        x = None if config.start_weights and config.noise_from == "lr" else self._initial_estimate(y)
        if self.noise_std is None and model.uses_noise_std:
            self.noise_std = estimate_noise_std(y if config.noise_from == "lr" or x is None else x)
        if self.kernel is not None:
            self.closed_form = ClosedForm(y, self.kernel, self.scale, self.phase)
        shown = []
        if config.start_weights:
            logs, log_noise_weight = self._of_scale(model.log_start_weight), float(model.log_start_noise_weight[...])
            shown = [self.closed_form.smooth_solution(self._weight(log, log_noise_weight)) for log in logs]
            x = shown.pop(len(shown) // 2)
        assert x is not None
        previous, carried = x, None
        for stage in range(config.num_stages):
            x, previous, carried = self._stage(stage, x, previous, carried, shown)
        if config.final_data_step:
            x, _ = self._step_on_data(x, -1)
            x = x.clip(0.0, 255.0) if config.clip else x
        return x

    def _stage(
        self, k: int, x: Tensor, previous: Tensor, carried: Tensor | None, shown: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        config, z = self.config, x
        if config.extrapolation and k > 0:
            z = x + (x - previous) * float(np.exp(self.model.log_momentum[k]))
        before = config.data_step_place == "before"
        if before:
            u, residual = self._step_on_data(z, k)
        else:
            u, residual = z, self._residual(z)
        noise, carried = self._prior(k, u, shown, residual, carried)
        if config.projection:
            assert self.noise_std is not None
            values = u.size(2) * u.size(3) * np.int64(config.channels) - np.int64(1)
            radius = self.noise_std * float(np.exp(self.model.log_radius[k])) * values.cast().op("Sqrt")
            noise = project_l2_ball(noise, radius)
        new = u - noise
        if not before:
            new, _ = self._step_on_data(new, k)
        return new.clip(0.0, 255.0) if config.clip else new, x, carried

    def _initial_estimate(self, y: Tensor) -> Tensor:
        if isinstance(self.physics, KnownBlur):
            raise ConfigError(
                'model.noise_from="initial" with a blur that is given has no ONNX graph; use --format stablehlo'
            )
        if self.physics is None:
            scales = np.array([1, 1, self.scale, self.scale], np.float32)
            return y.op("Resize", None, scales, mode="linear", coordinate_transformation_mode="half_pixel")
        return self.physics.initial_estimate(y)

    def _residual(self, z: Tensor) -> Tensor:
        return self.y * 0.0 if self.physics is None else self.physics.apply(z) - self.y

    def _step_on_data(self, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns the picture after the data step of a stage, and the residual that the prior sees."""
        if self.physics is None:
            return z, self._residual(z)
        if self.model.data_step.solves:
            log_weight = self._of_scale(self.model.log_weight)[k]
            u = self.closed_form.nearest(z, self._weight(log_weight, float(self.model.log_noise_weight[...])))
            return u, self._residual(u)
        assert not isinstance(self.physics, KnownBlur)
        if self.config.data_step != "gradient":
            raise ConfigError(f'model.data_step="{self.config.data_step}" has no ONNX graph; use --format stablehlo')
        factor = float(self.model.step[k]) if self.config.learned_step and k >= 0 else 1.0
        residual = self._residual(z)
        return z - self.physics.adjoint(residual) * (factor / self.physics.squared_norm), residual

    def _weight(self, log_weight: float, log_noise_weight: float) -> Tensor:
        """The weight (N, 1, 1, 1) that `isr_jax.solver.data_step.weight_for_noise` returns."""
        assert self.noise_std is not None
        variance = self.noise_std * self.noise_std
        if self.error_std is not None:
            variance = variance + self.error_std * self.error_std
        return (variance * float(np.exp(log_noise_weight)) + 1.0) * float(np.exp(LOG_UNIT * log_weight))

    def _of_scale(self, logs: Any) -> list[float]:
        values = np.asarray(logs[...])
        return [float(v) for v in (values[self.config.scales.index(self.scale)] if self.config.scales else values)]

    def _prior(
        self, k: int, u: Tensor, shown: list[Tensor], residual: Tensor, carried: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The ERD, as in `isr_jax.solver.erd`. Returns the noise, and the features if they are carried."""
        config, scale = self.config.erd, self.scale
        erd, stage = self.model.prior, k if self.config.per_stage else None
        at_lr = config.resolution == "lr"
        image = self.graph.concat([u, *shown], 1)
        parts = [image]
        if at_lr:
            parts = [image.op("SpaceToDepth", blocksize=scale) / 255.0, residual / 255.0]
        if config.noise_plane:
            assert self.noise_std is not None
            plane = self.noise_std / float(NOISE_UNIT if at_lr else 1)
            one = parts[0].slice(1, 0, 1) * 0.0
            parts.append(one + plane)
            if config.error_plane:
                error = 0.0 if self.error_std is None else self.error_std / float(NOISE_UNIT if at_lr else 1)
                parts.append(one + error)
        if carried is not None:
            parts.append(carried)
        encoder, decoder = erd.heads(scale)
        # Without carried features the encoder does without their weights: they would be multiplied by 0.
        unused = config.features if config.carry_features and carried is None else 0
        encoded = _convolve(self.graph.concat(parts, 1), encoder, stage, unused_inputs=unused)
        hidden = self._blocks(encoded, stage) if config.feedback_steps == 0 else encoded
        for _ in range(config.feedback_steps):
            other = hidden if config.feedback_input == "hidden" else encoded
            both = self.graph.concat([hidden, other], 1)
            hidden = self._blocks(_convolve(_rectify(both, erd.compress_prelu, stage), erd.compress, stage), stage)
        noise = _convolve(hidden, decoder, stage)
        noise = noise.op("DepthToSpace", blocksize=scale, mode="DCR") * 255.0 if at_lr else noise
        return noise, hidden if config.carry_features else None

    def _blocks(self, x: Tensor, stage: int | None) -> Tensor:
        for block in self.model.prior.blocks:
            y = _convolve(_rectify(x, block.prelu1, stage), block.conv1, stage)
            y = _convolve(_rectify(y, block.prelu2, stage), block.conv2, stage)
            x = x + y if block.shortcut else y
        return x


def _convolve(x: Tensor, layer: Conv, stage: int | None, unused_inputs: int = 0) -> Tensor:
    kernel = _of_stage(layer.kernel, stage).transpose(3, 2, 0, 1)
    kernel = np.ascontiguousarray(kernel[:, : kernel.shape[1] - unused_inputs])
    rows, cols = kernel.shape[2] // 2, kernel.shape[3] // 2
    pads = [rows, cols, rows, cols]
    if layer.border == "reflect" and (rows or cols):
        x = x.op("Pad", np.array([0, 0, rows, cols, 0, 0, rows, cols]), mode="reflect")
        pads = [0, 0, 0, 0]
    return x.op("Conv", kernel, _of_stage(layer.bias, stage), pads=pads)


def _rectify(x: Tensor, layer: PReLU, stage: int | None) -> Tensor:
    return x.op("PRelu", _of_stage(layer.slope, stage).reshape(-1, 1, 1))


def _of_stage(parameter: Any, stage: int | None) -> np.ndarray:
    values = np.asarray(parameter[...], np.float32)
    return values if stage is None else values[stage]
