"""All exceptions that sweep raises on purpose, each with the exit code of the command.

::

    SweepError                       1  a sentence and, where there is one, a hint
    ├── DefinitionError              2  the request is wrong; `problems` lists every problem found
    │   ├── ExperimentError          2  the experiment file
    │   │   └── UnfetchedError       2  it names what a server has to be asked for first
    │   ├── WorkflowError            2  the workflow or graph file
    │   ├── PlanError                2  the two do not fit each other or the server's nodes
    │   └── UsageError               2  the command line
    ├── ServerError                  3  this server cannot be used (it leaves the pool, the run goes on)
    │   ├── ServerUnreachableError   3  nobody answers there
    │   ├── ServerRefusedError       3  401 or 403
    │   └── ServerUnsupportedError   3  it speaks a version or protocol we do not
    ├── StoppedError               130  the run was asked to stop before it had begun
    ├── AttemptError                 1  one attempt at one variation brought no image
    │   ├── TransientError           1  the same attempt may succeed later or elsewhere
    │   │   ├── OverloadedError      1  429 or 503; `retry_after` in seconds where the server said so
    │   │   └── ItemLostError        1  the server forgot the item or cancelled it unasked
    │   └── VariationError           1  this variation cannot be rendered (bad value, a node failed)
    └── RecordError                  4  the results folder could not be written or read
        ├── DiskFullError            4
        ├── FolderInUseError         4  another process writes there
        └── CorruptRecordError       4  a file or a row was changed after it was written
"""

from __future__ import annotations

import copy
import copyreg
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from sweep.text import format_count


class SweepError(Exception):
    """An error in one sentence, with a hint how to solve it if there is one."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle an error of any class, whatever its constructor takes: agents on other hosts send errors as values."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem of a definition; `line` and `column` count from 1 and are None without a place in a file."""

    message: str
    line: int | None = None
    column: int | None = None
    is_universal: bool = False  # on every server alike

    def __str__(self) -> str:
        sentence = self.message if self.message.endswith((".", "?", "!", "…")) else f"{self.message}."
        return sentence if self.line is None else f"{self.line}:{self.column or 1}  {sentence}"


class DefinitionError(SweepError):
    """The request is wrong; `problems` holds every problem found, so that one edit can solve all."""

    exit_code = 2

    def __init__(
        self, message: str, *, problems: Sequence[Problem] = (), source: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)
        self.source = source

    @classmethod
    def of(cls, problems: Sequence[Problem], source: str) -> DefinitionError:
        """Build one error for all `problems` of `source` (the file's name as the user wrote it)."""
        count = format_count(len(problems), "problem")
        lines = "".join(f"\n  {problem}" for problem in problems)
        return cls(f"{source}: {count}{lines}", problems=problems, source=source)


class ExperimentError(DefinitionError):
    """The experiment file is wrong."""


class UnfetchedError(ExperimentError):
    """The experiment names images or a workflow that are on a server; `references` are to be fetched first."""

    references: tuple[str, ...] = ()
    experiment: str = ""  # its name
    servers: tuple[str, ...] = ()  # those that it names


class WorkflowError(DefinitionError):
    """The workflow or graph is wrong."""


class PlanError(DefinitionError):
    """Experiment, workflow and server do not fit each other."""


class UsageError(DefinitionError):
    """The command line is wrong."""


class ServerError(SweepError):
    """A server cannot be used."""

    exit_code = 3


class ServerUnreachableError(ServerError):
    """The server does not answer, or the connection broke for good."""


class ServerRefusedError(ServerError):
    """The server wants credentials it was not given, or refused those it was (401, 403)."""


class ServerUnsupportedError(ServerError):
    """The server's version or protocol is not one sweep speaks."""


class StoppedError(SweepError):
    """The run was asked to stop before anything was sent."""

    exit_code = 130


class AttemptError(SweepError):
    """An attempt at a variation brought no image; `kind` is the class name to show in the table.

    `most_attempts` bounds the attempts at a variation that fails like this, where more of them would hardly help.
    """

    def __init__(
        self, message: str, *, kind: str | None = None, hint: str | None = None, most_attempts: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind or type(self).__name__
        self.most_attempts = most_attempts

    def at(self, place: str) -> Self:
        """Return the same error with the place where it happened before its message."""
        placed = copy.copy(self)
        placed.message = f"{place}: {self.message}"
        placed.args = (placed.message,)
        return placed


class TransientError(AttemptError):
    """The same attempt may succeed later or on another server."""


class OverloadedError(TransientError):
    """The server asked for less (429, 503); `retry_after` is in seconds, None where it did not say.

    It is not `is_certain` that nothing was done where the connection to the server may have broken behind a proxy: 503.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, is_certain: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_certain = is_certain


class ItemLostError(TransientError):
    """The server does not know the item any more, or cancelled it without being asked."""


class VariationError(AttemptError):
    """A variation cannot be rendered as it is: a node refused a value, or a node failed."""


class RecordError(SweepError):
    """The results folder could not be written or read."""

    exit_code = 4


class DiskFullError(RecordError):
    """No space is left on the device that holds the results folder."""


class FolderInUseError(RecordError):
    """Another process writes to the results folder."""


class CorruptRecordError(RecordError):
    """A file or a row of the record was changed after it was written."""


def find_nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `word`, or None if none is similar enough."""
    by_lower = {c.lower(): c for c in candidates}
    lower = word.lower()
    spelled = "_".join(lower.replace("++", "pp").replace("karras", "k").split())  # as other tools name schedulers
    for same in (spelled, _SYNONYMS.get(spelled, "")):
        if same in by_lower:
            return by_lower[same]
    found = difflib.get_close_matches(lower, by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


_SYNONYMS: Final[Mapping[str, str]] = {  # what other tools call an input: our name for it
    **dict.fromkeys(("skipped_layers", "stop_at_clip_layer", "clip_skip_layers"), "clip_skip"),
    **dict.fromkeys(("cfg", "guidance", "guidance_scale", "scale"), "cfg_scale"),
    **dict.fromkeys(("sampler", "sampler_name", "sampling_method"), "scheduler"),
    **dict.fromkeys(("checkpoint", "ckpt", "ckpt_name", "unet"), "model"),
    **dict.fromkeys(("strength", "denoise", "denoising", "denoising_strength"), "denoise_strength"),
    **dict.fromkeys(("lora_strength", "lora_scale", "lora_multiplier"), "lora_weight"),
    **dict.fromkeys(("negative", "neg_prompt", "uc"), "negative_prompt"),
    **dict.fromkeys(("init_image", "source", "source_image", "input_image"), "image"),
    **dict.fromkeys(("controlnet_image", "control_net_image"), "control_image"),
    **dict.fromkeys(("controlnet_weight", "control_strength", "controlnet_strength"), "control_weight"),
    **dict.fromkeys(("noise_seed", "subseed"), "seed"),
    **dict.fromkeys(("num_steps", "num_inference_steps", "sampling_steps"), "steps"),
    **dict.fromkeys(("text", "positive_prompt"), "prompt"),
}


def did_you_mean(word: str, candidates: Iterable[str], meant: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return " Did you mean …?" for an error, or nothing; `meant` says what to suggest in place of a candidate."""
    near = find_nearest(word, candidates)
    return f" Did you mean {meant.get(near, near)}?" if near else ""


_MAX_NAMES: Final = 10_000  # of a folder that are compared
IMAGE_ENDINGS: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic"})


def did_you_mean_file(path: Path, folder: Path = Path()) -> str:
    """Suggest the file in the folder of `path` that is named most like it, endings aside, in the way of did_you_mean.

    In place of an image only another image is suggested. `folder` is the folder of `path` as a person wrote it.
    """
    try:
        names = [other.name for other in islice(path.parent.iterdir(), _MAX_NAMES)]
    except (OSError, ValueError):  # also of a path that no system takes
        return ""
    if path.suffix.lower() in IMAGE_ENDINGS:
        names = [name for name in names if Path(name).suffix.lower() in IMAGE_ENDINGS]
    alike = sorted(names, key=lambda name: (Path(name).suffix == path.suffix, name))
    by_stem = {Path(name).stem: name for name in alike}  # of one stem, the name with the same ending
    near = find_nearest(path.stem, by_stem)
    return f" Did you mean {folder / by_stem[near]}?" if near else ""
