"""Text alignment with a CLIP ONNX model."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import UsageError
from sweep.study.metrics.planes import DecodedImage, ImagePair, file_sha256
from sweep.study.schema import Direction, ReferenceKind

LONGEST_TEXT = 77  # tokens CLIP takes, both ends included
START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
WORD_END = "</w>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Byte-level byte-pair encoding of Radford et al. 2019 (GPT-2), lower-cased and with word ends, as in CLIP."""

    ids: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]

    @classmethod
    def load(cls, vocabulary: Path | None, merges: Path | None) -> Tokenizer:
        """From `vocab.json` and `merges.txt`. Raises UsageError where these are no such files."""
        if vocabulary is None or merges is None:
            raise UsageError("A tokenizer needs vocab.json and merges.txt.")
        try:
            ids = {str(token): int(number) for token, number in json.loads(vocabulary.read_text("utf-8")).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{vocabulary.name} is no vocabulary: {error}.") from error
        lines = [line.split() for line in merges.read_text("utf-8").splitlines() if not line.startswith("#version")]
        pairs = [(line[0], line[1]) for line in lines if len(line) == 2]
        if START not in ids or END not in ids:
            raise UsageError(f"{vocabulary.name} has no {START} and {END}: it is not CLIP's.")
        return cls(ids=ids, ranks={pair: rank for rank, pair in enumerate(pairs)})

    def encode(self, text: str) -> list[int]:
        """Token numbers with both ends, at most 77; what the vocabulary does not have is left out."""
        found = [
            self.ids[token]
            for word in _WORDS.findall(" ".join(text.lower().split()))
            for token in self._merged(word)
            if token in self.ids
        ]
        return [self.ids[START], *found[: LONGEST_TEXT - 2], self.ids[END]]

    def _merged(self, word: str) -> list[str]:
        letters = byte_letters()
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += WORD_END
        while len(parts) > 1:
            ranked = [(self.ranks.get((a, b), len(self.ranks)), i) for i, (a, b) in enumerate(pairwise(parts))]
            rank, at = min(ranked)
            if rank == len(self.ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts


def byte_letters() -> list[str]:
    """A printable letter for each byte: itself where it is one, else from 256 on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


Vector: TypeAlias = npt.NDArray[np.float32]

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images CLIP was trained on; Radford et al. 2021
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
CLIP_SIDE = 224
CLIP_FILES = ("vision_model.onnx", "text_model.onnx")


@dataclass(frozen=True, kw_only=True)
class TextAlignment:
    """Cosine of the embeddings of image and prompt, −1 to 1, higher where the image shows what the prompt says.

    Radford and others 2021, "Learning Transferable Visual Models From Natural Language Supervision", ICML; used as a
    score without the factor 2.5 of Hessel and others 2021 (CLIPScore). Values of different models do not compare: the
    version is the hash of the model files. The model is loaded at the first image, in the process that measures.
    """

    folder: Path
    version: str
    name: str = "text_alignment"
    label: str = "text alignment"
    summary: str = "How well the image shows what the prompt says, by the given CLIP-like model."
    unit: str = ""
    direction: Direction = "higher"
    range: tuple[float | None, float | None] = (-1.0, 1.0)
    reference: ReferenceKind = "text"
    working_size: int = 512
    cost: float = 100.0
    source: str = "Radford et al. 2021, arXiv:2103.00020; Hessel et al. 2021, arXiv:2104.08718"
    loaded: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> TextAlignment:
        """The metric for the model in `folder`. Raises UsageError where files or onnxruntime are missing."""
        place = Path(folder)
        if not place.is_dir():
            raise UsageError(f"The CLIP model cannot be read: there is no such folder as {folder}.")
        if importlib.util.find_spec("onnxruntime") is None:
            hint = "Install it with: pip install 'sweep-engine[features]'"
            raise UsageError("Text alignment needs onnxruntime.", hint=hint)
        missing = [name for name in (*CLIP_FILES, "vocab.json", "merges.txt") if _find(place, name) is None]
        if missing:
            hint = "A CLIP exported to ONNX has vision_model.onnx, text_model.onnx, vocab.json and merges.txt."
            raise UsageError(f"{folder} lacks {', '.join(missing)}.", hint=hint)
        hashes = [file_sha256(found) for name in CLIP_FILES if (found := _find(place, name)) is not None]
        return cls(folder=place.absolute(), version="1-" + "-".join(each[:12] for each in hashes))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = TextAlignment(**state)
        for name in made.__dataclass_fields__:
            object.__setattr__(self, name, getattr(made, name))

    def measure(self, view: ImagePair) -> float:
        """The cosine; NaN without a prompt."""
        if not view.prompt:
            return math.nan
        model = self._model()
        image, text = model.image(view.image), model.text(view.prompt)
        length = float(np.linalg.norm(image) * np.linalg.norm(text))
        return float(np.clip(image @ text / length, -1.0, 1.0)) if length else math.nan

    def _model(self) -> _Model:
        if "model" not in self.loaded:
            self.loaded["model"] = _Model(self.folder)
        model: _Model = self.loaded["model"]
        return model


def _find(folder: Path, name: str) -> Path | None:
    return next((place for place in (folder / name, folder / "onnx" / name) if place.is_file()), None)


class _Model:
    """Both halves, loaded once in the process that measures."""

    def __init__(self, folder: Path) -> None:
        self._vision, self._text = (_session(_find(folder, name)) for name in CLIP_FILES)
        config = _find(folder, "preprocessor_config.json")
        facts = json.loads(config.read_text(encoding="utf-8")) if config else {}
        self._mean = np.asarray(facts.get("image_mean", MEAN), dtype=np.float32)
        self._deviation = np.asarray(facts.get("image_std", DEVIATION), dtype=np.float32)
        self._side = _side(facts.get("crop_size", CLIP_SIDE))
        self._tokenizer = Tokenizer.load(_find(folder, "vocab.json"), _find(folder, "merges.txt"))
        self.text = lru_cache(maxsize=256)(self._embed_text)

    def image(self, decoded: DecodedImage) -> Vector:
        """Shortest side to the model's, centre cropped, as CLIP was trained."""
        from PIL import Image

        image = Image.fromarray(decoded.rgb)
        scale = self._side / min(image.size)
        size = max(round(image.width * scale), self._side), max(round(image.height * scale), self._side)
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (image.width - self._side) // 2, (image.height - self._side) // 2
        cropped = image.crop((left, top, left + self._side, top + self._side))
        values = (np.asarray(cropped, dtype=np.float32) / 255 - self._mean) / self._deviation
        return _run(self._vision, {"pixel_values": values.transpose(2, 0, 1)[None]}, "image_embeds")

    def _embed_text(self, prompt: str) -> Vector:
        ids = np.array([self._tokenizer.encode(prompt)], dtype=np.int64)
        return _run(self._text, {"input_ids": ids, "attention_mask": np.ones_like(ids)}, "text_embeds")


def _side(size: object) -> int:
    """`crop_size` is a number or has a height."""
    return int(size["height"]) if isinstance(size, dict) else int(str(size))


def _session(path: Path | None) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: dict[str, npt.NDArray[Any]], output: str) -> Vector:
    """The first row of an output, float32; only inputs that the model has are fed."""
    inputs = {node.name for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    wanted = output if output in names else names[0]
    found = session.run([wanted], {name: value for name, value in feeds.items() if name in inputs})[0]
    return np.asarray(found[0], dtype=np.float32).ravel()
