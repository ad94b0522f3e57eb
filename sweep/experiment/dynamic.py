"""Prompts in the dynamic-prompts syntax, all combinations, by the library of that name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sweep.experiment.tables import SourceError

MAX_PROMPTS: Final = 100_000


def expand(templates: Sequence[str], wildcards: Path | None) -> list[str]:
    """Every combination of every template, in order. Raises SourceError where the library is missing, a template
    cannot be read, a wildcard has no file, or there are more than a hundred thousand.
    """
    if wildcards is not None and not wildcards.is_dir():
        raise SourceError(f"the wildcards folder {wildcards.name} does not exist")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library calls its parser by deprecated names
        return _expanded(templates, wildcards)


def _expanded(templates: Sequence[str], wildcards: Path | None) -> list[str]:
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
    except ImportError as error:
        raise SourceError('needs dynamicprompts; pip install "sweep-engine[dynamic]" brings it') from error
    generator = CombinatorialPromptGenerator(wildcard_manager=WildcardManager(wildcards))
    prompts: list[str] = []
    for template in templates:
        try:
            found = generator.generate(template, max_prompts=MAX_PROMPTS + 1)
        except Exception as error:  # the library documents none of its own
            raise SourceError(f"the template {template!r} cannot be read ({error})") from error
        if not found:
            raise SourceError(f"the template {template!r} makes no prompt")
        prompts += [str(prompt) for prompt in found]
        if len(prompts) > MAX_PROMPTS:
            raise SourceError(f"the templates make more than {MAX_PROMPTS:,} prompts")
    unknown = next((prompt for prompt in prompts if "__" in prompt), None)
    if unknown is not None:
        raise SourceError(f"a wildcard has no file: {unknown!r}")
    return prompts
