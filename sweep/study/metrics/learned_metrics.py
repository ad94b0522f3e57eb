"""Learned metrics, by ONNX models that the user has on disk: text alignment (CLIP), LPIPS, and likeness by DINO.

No package ships such weights whole, so there is no column without a model; `docs/recipes.md` says how to export them.
For LPIPS and DINO the folder has `model.onnx`. For CLIP the folder is one as Hugging Face exports have it:
`vision_model.onnx` (input `pixel_values`, output `image_embeds`) and `text_model.onnx` (input `input_ids`, perhaps
`attention_mask`, output `text_embeds`), in it or in its `onnx/`; `tokenizer.json`; and perhaps
`preprocessor_config.json` with `image_mean`, `image_std` and `crop_size`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import UsageError
from sweep.study.metrics.base import DecodedImage, ImagePair, hash_image_file
from sweep.study.study_json import Direction, ReferenceKind

LONGEST_TEXT = 77  # tokens CLIP takes, both ends included
START, END = "<|startoftext|>", "<|endoftext|>"
TOKENIZER = "tokenizer.json"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images CLIP was trained on; Radford et al. 2021
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what DINO was trained with
MODEL_SIDE = 224  # px of the square that CLIP and DINO take
INSTALL = "Install it with: pip install 'sweep-engine[clip]'"
Vector: TypeAlias = npt.NDArray[np.float32]
Bounds: TypeAlias = tuple[float | None, float | None]


def load_tokenizer(file: Path) -> Callable[[str], list[int]]:
    """Make a function from a text to its token numbers, both ends included, at most 77.

    Raises UsageError where `file`, a `tokenizer.json`, is not a CLIP's.
    """
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise UsageError(f"{file.name} is not a tokenizer ({error}).") from error
    start, end = (made.token_to_id(token) for token in (START, END))
    if start is None or end is None:
        raise UsageError(f"{file.name} has no {START} and {END}, so it is not CLIP's.")

    def encode(text: str) -> list[int]:
        return [start, *made.encode(text, add_special_tokens=False).ids[: LONGEST_TEXT - 2], end]

    return encode


@dataclass(frozen=True)
class LearnedMetric:
    """A metric by the model in a folder, which is opened at the first image, in the process that measures.

    The version is the hash of the model's files: values of different models do not compare.
    """

    folder: Path
    version: str

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ("model.onnx",)
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    unit = ""
    working_size = 512
    cost = 400.0

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Check the model in `folder`. Raises UsageError where the folder, a file of it, or a package is missing."""
        place = Path(folder)
        if lacking := [name for name in cls.packages if importlib.util.find_spec(name) is None]:
            raise UsageError(f"The metric {cls.kind} needs {' and '.join(lacking)}.", hint=INSTALL)
        if not place.is_dir():
            raise UsageError(f"The model of {cls.kind} cannot be read: there is no such folder as {folder}.")
        paths = [_find(place, name) for name in cls.files]
        if missing := [path.name for path in paths if not path.is_file()]:
            hint = "docs/recipes.md says how to export a model."
            raise UsageError(f"{folder} lacks {', '.join(missing)}.", hint=hint)
        models = [path for path in paths if path.suffix == ".onnx"]
        weights = [file for path in models for file in sorted(path.parent.glob(f"{path.name}?data"))]  # if not inside
        return cls(place.absolute(), "-".join(["1", *(hash_image_file(path)[:12] for path in (*models, *weights))]))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "version": self.version}

    @cached_property
    def _session(self) -> Any:
        return _open_session(_find(self.folder, self.files[0]))


class PatchDistance(LearnedMetric):
    """LPIPS: the model takes two images (n × 3 × height × width, −1 to 1) and gives their distance."""

    kind = "lpips"
    name = "lpips"
    label = "perceptual distance (LPIPS)"
    summary = "Learned difference of patches, as people judged small distortions. It does not see what a thing is."
    direction: Direction = "lower"
    range: Bounds = (0.0, None)
    reference: ReferenceKind = "image"
    source = "Zhang, Isola, Efros, Shechtman and Wang 2018, arXiv:1801.03924"

    def measure(self, view: ImagePair) -> float:
        """Compute the distance."""
        names = [node.name for node in self._session.get_inputs()]
        if len(names) != 2:
            raise UsageError(f"{self.folder}: an LPIPS model takes two images; this one takes {len(names)} inputs.")
        planes = (np.asarray(each.rgb, dtype=np.float32).transpose(2, 0, 1) for each in view.pair)
        feeds = {name: plane[None] / 127.5 - 1 for name, plane in zip(names, planes, strict=True)}
        return max(float(np.mean(_run(self._session, feeds))), 0.0)


class ContentLikeness(LearnedMetric):
    """DINO: the model takes an image (normalised as ImageNet) and gives its embedding, or one a token, of which the
    first is taken. The value is the cosine of both embeddings.
    """

    kind = "dino"
    name = "dino_likeness"
    label = "likeness of content (DINO)"
    summary = "Whether both show the same thing, by learned features. It does not see exact place, colour, nor noise."
    direction: Direction = "higher"
    range: Bounds = (-1.0, 1.0)
    reference: ReferenceKind = "image"
    source = "Caron et al. 2021, arXiv:2104.14294; Oquab et al. 2023, arXiv:2304.07193"

    def measure(self, view: ImagePair) -> float:
        """Compute the cosine."""
        return _compute_cosine(*map(self._embed, view.pair))

    def _embed(self, image: DecodedImage) -> Vector:
        values = _normalise(image, MODEL_SIDE, IMAGENET_MEAN, IMAGENET_DEVIATION)
        feeds = {self._session.get_inputs()[0].name: values}
        found = _run(self._session, feeds, "image_embeds", "pooler_output")
        return np.asarray(found[0, 0] if found.ndim == 3 else found[0].ravel())


class TextAlignment(LearnedMetric):
    """Cosine of CLIP's embeddings of image and prompt.

    It is used as a score without the factor 2.5 of Hessel and others 2021 (CLIPScore).
    """

    kind = "clip"
    files = ("vision_model.onnx", "text_model.onnx", TOKENIZER)
    packages = ("onnxruntime", "tokenizers")
    name = "text_alignment"
    label = "text alignment"
    summary = "How well the image shows what the prompt says. It does not see counts, places, nor quality."
    direction: Direction = "higher"
    range: Bounds = (-1.0, 1.0)
    reference: ReferenceKind = "text"
    cost = 100.0
    source = "Radford et al. 2021, arXiv:2103.00020; Hessel et al. 2021, arXiv:2104.08718"

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Check the model in `folder`, its tokenizer included. Raises UsageError."""
        made = super().load(folder)
        load_tokenizer(_find(made.folder, TOKENIZER))
        return made

    def measure(self, view: ImagePair) -> float:
        """Compute the cosine; NaN without a prompt."""
        if not view.prompt:
            return math.nan
        return _compute_cosine(self._model.embed_image(view.image), self._model.embed_text(view.prompt))

    @cached_property
    def _model(self) -> _Clip:
        return _Clip(self.folder)


class _Clip:
    """The image half and the text half of a CLIP model."""

    def __init__(self, folder: Path) -> None:
        self._vision, self._text = (_open_session(_find(folder, name)) for name in TextAlignment.files[:2])
        self._encode = load_tokenizer(_find(folder, TOKENIZER))
        config = _find(folder, "preprocessor_config.json")
        facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        self._mean, self._deviation = facts.get("image_mean", CLIP_MEAN), facts.get("image_std", CLIP_DEVIATION)
        side = facts.get("crop_size", MODEL_SIDE)  # a number, or it has a height
        self._side = int(side["height"] if isinstance(side, dict) else side)
        self.embed_text = lru_cache(maxsize=256)(self._embed_text)

    def embed_image(self, image: DecodedImage) -> Vector:
        values = _normalise(image, self._side, self._mean, self._deviation)
        return np.asarray(_run(self._vision, {"pixel_values": values}, "image_embeds")[0]).ravel()

    def _embed_text(self, prompt: str) -> Vector:
        ids = np.array([self._encode(prompt)], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return np.asarray(_run(self._text, feeds, "text_embeds")[0]).ravel()


LEARNED: Mapping[str, type[PatchDistance | ContentLikeness | TextAlignment]] = {
    metric.kind: metric for metric in (TextAlignment, PatchDistance, ContentLikeness)
}


def _find(folder: Path, name: str) -> Path:
    """Find a file of a model, in the folder itself where it is in neither place."""
    inner = folder / "onnx" / name
    return inner if inner.is_file() and not (folder / name).is_file() else folder / name


def _normalise(image: DecodedImage, side: int, mean: Sequence[float], deviation: Sequence[float]) -> Vector:
    """Scale the shortest side to `side` and crop the centre, as such models were trained: 1 × 3 × side × side."""
    from PIL import Image

    whole = Image.fromarray(image.rgb)
    scale = side / min(whole.size)
    size = max(round(whole.width * scale), side), max(round(whole.height * scale), side)
    whole = whole.resize(size, Image.Resampling.BICUBIC)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    rgb = np.asarray(whole.crop((left, top, left + side, top + side)), dtype=np.float32) / np.float32(255)
    centre, spread = (np.asarray(values, dtype=np.float32) for values in (mean, deviation))
    return np.asarray((rgb - centre) / spread).transpose(2, 0, 1)[None]


def _open_session(path: Path) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: Mapping[str, npt.NDArray[Any]], *outputs: str) -> Vector:
    """Run the model on those inputs that it has, and give the first of these outputs, else its first one."""
    inputs = {node.name for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    wanted = next((name for name in outputs if name in names), names[0])
    found = session.run([wanted], {name: value for name, value in feeds.items() if name in inputs})[0]
    return np.asarray(found, dtype=np.float32)


def _compute_cosine(first: Vector, second: Vector) -> float:
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / length, -1.0, 1.0)) if length else math.nan
