"""Tensors out of a PyTorch weights file (the format before 1.6) without PyTorch and without running its pickles."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import SweepError

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
