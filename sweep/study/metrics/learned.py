"""Learned metrics, by ONNX models that the user has on disk: text alignment (CLIP), LPIPS, and likeness by DINO.

No package ships such weights whole, so there is no column without a model; `docs/recipes.md` says how to export them.
For LPIPS and DINO the folder has `model.onnx`. For CLIP the folder is one as Hugging Face exports have it:
`vision_model.onnx` (input `pixel_values`, output `image_embeds`) and `text_model.onnx` (input `input_ids`, perhaps
`attention_mask`, output `text_embeds`), in it or in its `onnx/`; `tokenizer.json`, or `vocab.json` and `merges.txt`;
and perhaps `preprocessor_config.json` with `image_mean`, `image_std` and `crop_size`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sweep.errors import UsageError
from sweep.study.metrics.planes import DecodedImage, ImagePair, file_sha256
from sweep.study.schema import Direction, ReferenceKind

LONGEST_TEXT = 77  # tokens CLIP takes, both ends included
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # how CLIP splits a text before merging
TEXT_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either will do


def load_tokenizer(files: Sequence[Path]) -> Callable[[str], list[int]]:
    """Make a function from a text to its token numbers, both ends included, at most 77.

    Args:
        files: `tokenizer.json` alone, or `vocab.json` and `merges.txt`.

    Raises:
        UsageError: The files are not a CLIP tokenizer's.
    """
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_file(str(files[0])) if len(files) == 1 else _build_tokenizer(*files)
    except Exception as error:  # the library raises Exception itself
        raise UsageError(f"{files[0].name} is not a tokenizer ({error}).") from error
    start, end = (made.token_to_id(token) for token in (START, END))
    if start is None or end is None:
        raise UsageError(f"{files[0].name} has no {START} and {END}, so it is not CLIP's.")

    def encode(text: str) -> list[int]:
        return [start, *made.encode(text, add_special_tokens=False).ids[: LONGEST_TEXT - 2], end]

    return encode


def _build_tokenizer(vocabulary: Path, merges: Path) -> Any:
    """Build the byte-level byte-pair encoding of Radford et al. 2019 (GPT-2), lower-cased and with word ends."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges), end_of_word_suffix="</w>"))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    return made


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
    summary: str = "How well the image shows what the prompt says. It does not see counts, places, nor quality."
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
        """Open the model in `folder`. Raises UsageError where files or packages are missing."""
        place = Path(folder)
        if not place.is_dir():
            raise UsageError(f"The CLIP model cannot be read: there is no such folder as {folder}.")
        lacking = [name for name in ("onnxruntime", "tokenizers") if importlib.util.find_spec(name) is None]
        if lacking:
            hint = "Install it with: pip install 'sweep-engine[clip]'"
            raise UsageError(f"Text alignment needs {' and '.join(lacking)}.", hint=hint)
        texts = find_text_files(place)
        missing = [name for name in CLIP_FILES if _find(place, name) is None] + ([] if texts else ["tokenizer.json"])
        if missing:
            hint = "A CLIP exported to ONNX has vision_model.onnx, text_model.onnx and tokenizer.json."
            raise UsageError(f"{folder} lacks {', '.join(missing)}.", hint=hint)
        load_tokenizer(texts)
        hashes = [file_sha256(found) for name in CLIP_FILES if (found := _find(place, name)) is not None]
        return cls(folder=place.absolute(), version="1-" + "-".join(each[:12] for each in hashes))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = TextAlignment(**state)
        for name in made.__dataclass_fields__:
            object.__setattr__(self, name, getattr(made, name))

    def measure(self, view: ImagePair) -> float:
        """Compute the cosine; NaN without a prompt."""
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


def find_text_files(folder: Path) -> list[Path]:
    """Find the tokenizer's files: `tokenizer.json`, else `vocab.json` and `merges.txt`; empty for none."""
    places = ([_find(folder, name) for name in names] for names in TEXT_FILES)
    return next(([path for path in found if path] for found in places if all(found)), [])


class _Model:
    """Both halves, loaded once in the process that measures."""

    def __init__(self, folder: Path) -> None:
        self._vision, self._text = (_session(_find(folder, name)) for name in CLIP_FILES)
        config = _find(folder, "preprocessor_config.json")
        facts = json.loads(config.read_text(encoding="utf-8")) if config else {}
        self._mean = np.asarray(facts.get("image_mean", MEAN), dtype=np.float32)
        self._deviation = np.asarray(facts.get("image_std", DEVIATION), dtype=np.float32)
        self._side = _side(facts.get("crop_size", CLIP_SIDE))
        self._encode = load_tokenizer(find_text_files(folder))
        self.text = lru_cache(maxsize=256)(self._embed_text)

    def image(self, decoded: DecodedImage) -> Vector:
        """Embed an image: shortest side to the model's, centre cropped, as CLIP was trained."""
        values = (crop_centre(decoded, self._side) - self._mean) / self._deviation
        return _run(self._vision, {"pixel_values": values.transpose(2, 0, 1)[None]}, "image_embeds")

    def _embed_text(self, prompt: str) -> Vector:
        ids = np.array([self._encode(prompt)], dtype=np.int64)
        return _run(self._text, {"input_ids": ids, "attention_mask": np.ones_like(ids)}, "text_embeds")


def crop_centre(decoded: DecodedImage, side: int) -> Vector:
    """Scale the shortest side to `side` and crop the centre, as such models were trained: side × side × 3, 0 to 1."""
    from PIL import Image

    image = Image.fromarray(decoded.rgb)
    scale = side / min(image.size)
    size = max(round(image.width * scale), side), max(round(image.height * scale), side)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cropped = image.crop((left, top, left + side, top + side))
    return np.asarray(cropped, dtype=np.float32) / np.float32(255)


def _side(size: object) -> int:
    """Read `crop_size`, which is a number or has a height."""
    return int(size["height"]) if isinstance(size, dict) else int(str(size))


def _session(path: Path | None) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: dict[str, npt.NDArray[Any]], output: str) -> Vector:
    """Run the model and give the first row of an output, float32; only inputs that the model has are fed."""
    inputs = {node.name for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    wanted = output if output in names else names[0]
    found = session.run([wanted], {name: value for name, value in feeds.items() if name in inputs})[0]
    return np.asarray(found[0], dtype=np.float32).ravel()


MODEL_FILE = "model.onnx"
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what DINO was trained with
PairKind: TypeAlias = Literal["lpips", "dino"]
_SOURCES: Mapping[PairKind, str] = {
    "lpips": "Zhang, Isola, Efros, Shechtman and Wang 2018, arXiv:1801.03924",
    "dino": "Caron et al. 2021, arXiv:2104.14294; Oquab et al. 2023, arXiv:2304.07193",
}


@dataclass(frozen=True, kw_only=True)
class LearnedLikeness:
    """How alike an image and its source are by a learned model. Values of different models do not compare.

    "lpips": the model takes two images (n × 3 × height × width, −1 to 1) and gives their distance. "dino": it takes one
    (`pixel_values`, normalised as ImageNet) and gives its embedding, or one a token, of which the first is taken; the
    value is the cosine of both embeddings. The version is the hash of the model's file.
    """

    kind: PairKind
    folder: Path
    version: str
    unit: str = ""
    reference: ReferenceKind = "image"
    working_size: int = 512
    cost: float = 400.0
    loaded: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, kind: PairKind, folder: str | Path) -> LearnedLikeness:
        """Open the model in `folder`. Raises UsageError where the file or the package is missing."""
        if importlib.util.find_spec("onnxruntime") is None:
            hint = "Install it with: pip install 'sweep-engine[clip]'"
            raise UsageError(f"The metric {kind} needs onnxruntime.", hint=hint)
        path = _find(Path(folder), MODEL_FILE)
        if path is None:
            raise UsageError(f"There is no {MODEL_FILE} in {folder}.", hint="docs/recipes.md says how to export one.")
        return cls(kind=kind, folder=Path(folder).absolute(), version=f"1-{file_sha256(path)[:12]}")

    @property
    def name(self) -> str:
        """Column name."""
        return "lpips" if self.kind == "lpips" else "dino_likeness"

    @property
    def label(self) -> str:
        """For people."""
        return "perceptual distance (LPIPS)" if self.kind == "lpips" else "likeness of content (DINO)"

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.kind == "lpips":
            return "Learned difference of patches, as people judged small distortions. It does not see what a thing is."
        return "Whether both show the same thing, by learned features. It does not see exact place, colour, nor noise."

    @property
    def direction(self) -> Direction:
        """Whether higher is nearer to the source."""
        return "lower" if self.kind == "lpips" else "higher"

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Lowest and highest value."""
        return (0.0, None) if self.kind == "lpips" else (-1.0, 1.0)

    @property
    def source(self) -> str:
        """Where it is from."""
        return _SOURCES[self.kind]

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "folder": self.folder, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = LearnedLikeness(**state)
        for name in made.__dataclass_fields__:
            object.__setattr__(self, name, getattr(made, name))

    def measure(self, view: ImagePair) -> float:
        """Compute the distance or the cosine."""
        if "model" not in self.loaded:
            self.loaded["model"] = _session(_find(self.folder, MODEL_FILE))
        session = self.loaded["model"]
        if self.kind == "lpips":
            return self._measure_distance(session, *view.pair)
        first, second = (self._embed(session, image) for image in view.pair)
        length = float(np.linalg.norm(first) * np.linalg.norm(second))
        return float(np.clip(first @ second / length, -1.0, 1.0)) if length else math.nan

    def _measure_distance(self, session: Any, image: DecodedImage, reference: DecodedImage) -> float:
        names = [node.name for node in session.get_inputs()]
        if len(names) != 2:
            raise UsageError(f"{self.folder}: an LPIPS model takes two images; this one takes {len(names)} inputs.")
        planes = (np.asarray(each.rgb, dtype=np.float32).transpose(2, 0, 1) for each in (image, reference))
        found = session.run(None, {name: plane[None] / 127.5 - 1 for name, plane in zip(names, planes, strict=True)})[0]
        return max(float(np.mean(found)), 0.0)

    def _embed(self, session: Any, image: DecodedImage) -> Vector:
        values = (crop_centre(image, CLIP_SIDE) - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(
            IMAGENET_DEVIATION, np.float32
        )
        names = [node.name for node in session.get_outputs()]
        wanted = next((name for name in ("image_embeds", "pooler_output") if name in names), names[0])
        inputs = {session.get_inputs()[0].name: values.transpose(2, 0, 1)[None]}
        found = np.asarray(session.run([wanted], inputs)[0], dtype=np.float32)
        embedding: Vector = found[0, 0] if found.ndim == 3 else found[0].ravel()
        return embedding
