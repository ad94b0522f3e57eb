"""Prompts in the dynamic-prompts syntax, all combinations, by the library of that name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweep.experiment.tables import SourceError

if TYPE_CHECKING:
    from dynamicprompts.generators import CombinatorialPromptGenerator
    from dynamicprompts.wildcards import WildcardManager

MAX_PROMPTS: Final = 100_000
_WILDCARD = re.compile(r"__([\w*][\w*/. -]*?)__")


def expand(templates: Sequence[str], wildcards: Path | None) -> list[str]:
    """Every combination of every template, in order. Raises SourceError where the library is missing, a template
    cannot be read, a wildcard has no file, or there are more than a hundred thousand.
    """
    if wildcards is not None and not wildcards.is_dir():
        raise SourceError(f"the wildcards folder {wildcards.name} does not exist")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library calls its parser by deprecated names
        try:
            from dynamicprompts.generators import CombinatorialPromptGenerator
            from dynamicprompts.wildcards import WildcardManager
        except ImportError as error:
            raise SourceError('needs dynamicprompts; pip install "sweep-engine[dynamic]" brings it') from error
        manager = WildcardManager(wildcards)
        generator = CombinatorialPromptGenerator(wildcard_manager=manager)
        prompts: list[str] = []
        for template in templates:
            _check_wildcards(template, manager)
            prompts += _expanded(template, generator, MAX_PROMPTS + 1 - len(prompts))
    return prompts


def _check_wildcards(text: str, manager: WildcardManager, seen: frozenset[str] = frozenset()) -> None:
    """Every wildcard has values, also those that its values name; the library would go on for ever without."""
    for name in _WILDCARD.findall(text):
        if name in seen:
            raise SourceError(f"the wildcard {name} leads back to itself")
        values = manager.get_values(name).string_values
        if not values:
            raise SourceError(f"the wildcard {name} has no values; is there a file {name}.txt?")
        for value in values:
            _check_wildcards(value, manager, seen | {name})


def _expanded(template: str, generator: CombinatorialPromptGenerator, most: int) -> list[str]:
    try:
        found = generator.generate(template, max_prompts=most)
    except Exception as error:  # the library documents none of its own
        reason = " ".join(str(error).split())
        raise SourceError(f"the template {template!r} cannot be read ({reason})") from error
    if not found:
        raise SourceError(f"the template {template!r} makes no prompt")
    if len(found) >= most:
        raise SourceError(f"the templates make more than {MAX_PROMPTS:,} prompts")
    return [str(prompt) for prompt in found]
