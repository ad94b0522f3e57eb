"""Which model is meant: from what a person wrote to the one model of the server that it names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sweep.errors import PlanError, did_you_mean, nearest
from sweep.workflow.graph import ModelRef
from sweep.workflow.schemas import Model

_CALLED = {
    "main": "model",
    "lora": "LoRA",
    "vae": "VAE",
    "controlnet": "ControlNet",
    "t5_encoder": "T5 encoder",
    "clip_embed": "CLIP encoder",
    "ip_adapter": "IP adapter",
    "t2i_adapter": "T2I adapter",
    "embedding": "textual inversion",
}
_ANY = "any"  # the base of models that fit every family


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a server, found by what people call them."""

    installed: tuple[Model, ...]

    @classmethod
    def of(cls, models: Sequence[Model]) -> Models:
        return cls(tuple(sorted(models, key=lambda model: (model.type, model.name, model.base))))

    def any_main(self, bases: Collection[str] = ()) -> ModelRef | None:
        """Some main model, to check the rest of an experiment with whose own model is wrong."""
        return next(map(_ref, self._mains(bases)), None)

    def only_main(self, bases: Collection[str] = (), wanted: str = "") -> ModelRef:
        """The server's only main model of these bases (any, if empty). Raises PlanError for none or several; `wanted`
        is the one the workflow names, which is not there.
        """
        mains = self._mains(bases)
        kind = f"main model for {' or '.join(bases)}" if bases else "main model"
        lacking = f"the workflow names {wanted}, which the server does not have; " if wanted else ""
        if not mains:
            raise PlanError(f"{lacking}{'it' if lacking else 'the server'} has no {kind} installed.")
        if len(mains) > 1:
            plural = kind.replace("model", "models", 1)
            who = "it" if lacking else "the server"
            raise PlanError(f"{lacking}{who} has {len(mains)} {plural}; name one: {_listed(mains)}.")
        return _ref(mains[0])

    def _mains(self, bases: Collection[str]) -> list[Model]:
        return [model for model in self.installed if model.type == "main" and (not bases or model.base in bases)]

    def find(self, written: object, types: Sequence[str] = ("main",), base: str | None = None) -> ModelRef:
        """The one model of these types (any, if empty) that `written` names: a name, `name@base`, or a key.

        `base`, where given, is the base of the main model it has to fit. Raises PlanError.
        """
        if isinstance(written, ModelRef):
            written = f"{written.name}@{written.base}" if written.base else written.name
        if isinstance(written, Mapping):
            name, of = written.get("name"), written.get("base")
            written = f"{name}@{of}" if of else name
        if not isinstance(written, str) or not written.strip():
            raise PlanError(f"takes the name of a {called(types)}, not {written!r}.")
        word = written.strip()
        named = self._named(word)
        fitting = [model for model in named if not types or model.type in types]
        if not fitting:
            raise PlanError(self._unknown(word, named, types))
        based = [model for model in fitting if base is None or model.base in (base, _ANY)]
        if not based:
            raise PlanError(f"{word} is made for {_bases(fitting)}; the model is {base}.")
        if len({_ref(model) for model in based}) > 1:
            raise PlanError(f"{word} names {len(based)} models; write one of {_listed(based)}.")
        return _ref(based[0])

    def _named(self, word: str) -> list[Model]:
        by_key = [model for model in self.installed if model.key == word]
        by_name = [model for model in self.installed if model.name == word]
        name, at, base = word.rpartition("@")
        by_both = [model for model in self.installed if at and (model.name, model.base) == (name, base)]
        return by_key or by_name or by_both

    def _unknown(self, word: str, named: Sequence[Model], types: Sequence[str]) -> str:
        if named:
            return f"{word} is a {called([named[0].type])}, not a {called(types)}."
        have = [model for model in self.installed if not types or model.type in types]
        if not have:
            return f"the server has no {called(types)} named {word}, and no other {called(types)} either."
        names = [model.name for model in have]
        others = did_you_mean(word, names) if nearest(word, names) else f" It has {_listed(have)}."
        return f"the server has no {called(types)} named {word}.{others}"


def _ref(model: Model) -> ModelRef:
    return ModelRef(name=model.name, base=model.base, type=model.type)


def called(types: Sequence[str]) -> str:
    """What people call models of these types: a LoRA, a T5 encoder."""
    return " or ".join(_CALLED.get(kind, kind) for kind in types) or "model"


def _bases(models: Iterable[Model]) -> str:
    return " and ".join(sorted({model.base for model in models}))


def _listed(models: Sequence[Model], most: int = 12) -> str:
    """Their names, with the base where a name stands twice."""
    names = [model.name for model in models]
    shown = [model.name if names.count(model.name) == 1 else f"{model.name}@{model.base}" for model in models]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
