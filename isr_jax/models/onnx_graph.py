"""ONNX graphs written as arithmetic: tensors that can be added, multiplied and resampled, each operation a node."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from isr_jax.config import UserError

OPSET, IR_VERSION = 17, 8
"""Since 2022; the transform of Fourier came with this one. Older programs read older files only."""

Border = Literal["symmetric", "reflect", "edge"]


class Graph:
    """The nodes and constants of a graph that is being written; pictures are planar (N, `channels`, H, W)."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.nodes: list[Any] = []
        self.constants: dict[tuple[Any, ...], Any] = {}
        self.inputs: list[Any] = []
        self.made: dict[tuple[str, ...], Tensor] = {}

    def input(self, name: str, dtype: int, shape: list[int | str]) -> "Tensor":
        """Declares an input; names in its shape are free."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return Tensor(self, name)

    def constant(self, value: Any) -> "Tensor":
        """Returns a constant; equal ones are stored once. Python's own numbers become float32, NumPy's stay."""
        array = np.asarray(_like(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"c{len(self.constants)}")
        return Tensor(self, self.constants[key].name)

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> "Tensor":
        """Appends a node, unless an equal one is there, and returns its first output.

        Inputs that are no tensors are constants; None is one left out.
        """
        names = ["" if x is None else x.name if isinstance(x, Tensor) else self.constant(x).name for x in inputs]
        key = (kind, *names, str(sorted(attributes.items())))
        if key not in self.made:
            outputs = [f"t{len(self.nodes)}"]
            if kind == "TopK":
                outputs.append(f"{outputs[0]}_places")
            self.nodes.append(helper.make_node(kind, names, outputs, **attributes))
            self.made[key] = Tensor(self, outputs[0])
        return self.made[key]

    def range(self, start: Any, end: Any) -> "Tensor":
        """Returns start, ..., end - 1, whole numbers."""
        return self.op("Range", _whole(start), _whole(end), np.int64(1))

    def concat(self, tensors: list["Tensor"], axis: int) -> "Tensor":
        """Joins along an axis."""
        return tensors[0] if len(tensors) == 1 else self.op("Concat", *tensors, axis=axis)

    def model(self, output: "Tensor", dtype: int, shape: list[int | str], **of_model: Any) -> Any:
        """Returns the file's content, with `output` named "output"."""
        self.nodes.append(helper.make_node("Identity", [output.name], ["output"]))
        value = helper.make_tensor_value_info("output", dtype, shape)
        graph = helper.make_graph(self.nodes, "isr_jax", self.inputs, [value], list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, **of_model)


class Tensor:
    """A value in a graph."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def op(self, kind: str, *others: Any, **attributes: Any) -> "Tensor":
        """Appends a node whose first input this is."""
        return self.graph.op(kind, self, *others, **attributes)

    def __add__(self, other: Any) -> "Tensor":
        return self.op("Add", _like(other))

    def __sub__(self, other: Any) -> "Tensor":
        return self.op("Sub", _like(other))

    def __mul__(self, other: Any) -> "Tensor":
        return self.op("Mul", _like(other))

    def __truediv__(self, other: Any) -> "Tensor":
        return self.op("Div", _like(other))

    def __neg__(self) -> "Tensor":
        return self.op("Neg")

    def size(self, axis: int) -> "Tensor":
        """Returns the length of an axis, a scalar int64."""
        return self.op("Shape", start=axis, end=axis + 1).op("Squeeze", np.array([0]))

    def cast(self, dtype: int = TensorProto.FLOAT) -> "Tensor":
        """Returns it in another type, float32 by default."""
        return self.op("Cast", to=dtype)

    def reshape(self, *shape: Any) -> "Tensor":
        """Returns it in another shape; sizes are numbers or scalar tensors, 0 the same as before."""
        parts = [n.op("Unsqueeze", np.array([0])) if isinstance(n, Tensor) else np.array([n]) for n in shape]
        if all(isinstance(part, np.ndarray) for part in parts):
            return self.op("Reshape", np.concatenate(parts))
        return self.op("Reshape", self.graph.op("Concat", *parts, axis=0))

    def slice(self, axis: int, start: Any, end: Any, step: int = 1) -> "Tensor":
        """Returns a part along an axis."""
        bounds = [x.reshape(1) if isinstance(x, Tensor) else np.array([x]) for x in (start, end)]
        return self.op("Slice", *bounds, np.array([axis]), np.array([step]))

    def clip(self, low: float, high: float) -> "Tensor":
        """Returns it between two numbers."""
        return self.op("Clip", low, high)

    def mirrored(self, axis: int, positions: "Tensor", border: Border) -> "Tensor":
        """Takes what lies at positions along an axis, which may lie beyond its ends, however far."""
        size = self.size(axis)
        last = size - np.int64(1)
        if border == "edge":
            return self.op("Gather", positions.op("Max", np.int64(0)).op("Min", last), axis=axis)
        if border == "symmetric":  # the edge pixel is repeated
            period = size * np.int64(2)
            at = positions.op("Mod", period)
            return self.op("Gather", at.op("Min", period - np.int64(1) - at), axis=axis)
        period = (last * np.int64(2)).op("Max", np.int64(1))
        at = positions.op("Mod", period)
        return self.op("Gather", at.op("Min", period - at), axis=axis)

    def extended(self, axis: int, before: Any, after: Any, border: Border) -> "Tensor":
        """Appends pixels on both sides of an axis."""
        start = -before if isinstance(before, Tensor) else np.int64(-before)
        return self.mirrored(axis, self.graph.range(start, self.size(axis) + _whole(after)), border)

    def filtered(self, taps: np.ndarray, axis: int, stride: int = 1) -> "Tensor":
        """Correlates along an axis of pictures with a filter, without a border, and keeps every stride-th value."""
        shape, strides = [1, 1, 1, 1], [1, 1]
        shape[axis], strides[axis - 2] = len(taps), stride
        return self.channelwise("Conv", taps.reshape(shape).astype(np.float32), strides=strides)

    def enlarged(self, phases: np.ndarray, axis: int, border: Border) -> "Tensor":
        """Interleaves one filtered copy per phase along an axis of pictures: phases (scale, taps), the taps centred."""
        scale, taps = phases.shape
        shape, strides, pads = [1, 1, 1, 1], [1, 1], [0, 0, 0, 0]
        shape[axis], strides[axis - 2] = scale * taps, scale
        pads[axis - 2] = pads[axis] = scale * (taps - 1)
        wide = self.extended(axis, taps // 2, taps // 2, border) if taps > 1 else self
        kernel = phases.T[::-1].reshape(shape).astype(np.float32)
        return wide.channelwise("ConvTranspose", kernel, strides=strides, pads=pads)

    def channelwise(self, kind: str, kernel: Any, **attributes: Any) -> "Tensor":
        """Convolves every channel by itself, all with one kernel (1, 1, rows, cols)."""
        single = self.op("Reshape", np.array([-1, 1, 0, 0]))
        return single.op(kind, kernel, **attributes).op("Reshape", np.array([-1, self.graph.channels, 0, 0]))


def _whole(value: Any) -> Any:
    return value if isinstance(value, Tensor) else np.int64(value)


def _like(value: Any) -> Any:
    return np.float32(value) if type(value) in (float, int) else value


def read_facts(path: Path) -> dict[str, str]:
    """Returns what an ONNX file says of itself: its metadata, inputs and outputs.

    Raises:
      UserError: If it is none.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError):
        raise UserError(f"{path} is damaged or not an ONNX file") from None
    facts = {"file": f"{path} ({path.stat().st_size:,} bytes)"} | {p.key: p.value for p in model.metadata_props}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = ", ".join(str(d.dim_param or d.dim_value) for d in tensor.shape.dim)
            facts[f"{kind} {value.name}"] = f"{TensorProto.DataType.Name(tensor.elem_type).lower()} ({sizes})"
    return {
        **facts,
        "nodes": str(len(model.graph.node)),
        "opset": ", ".join(str(o.version) for o in model.opset_import),
    }
