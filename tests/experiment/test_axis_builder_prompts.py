"""Prompts in the dynamic-prompts syntax make every combination, and come to an end where the library does not."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from sweep.experiment import value_files
from tests.experiment.conftest import Fail, Load, settings_at, values_of

HEAD = "workflow: txt2img\naxes:\n  prompt: "


@pytest.fixture
def wildcards(folder: Path) -> Path:
    top = folder / "wild"
    top.mkdir()
    (top / "animal.txt").write_text("cat\ndog\n")
    (top / "scene.txt").write_text("a __animal__ at {dawn|dusk}\n")
    (top / "loop.txt").write_text("__loop__ again\n")
    for name in ("latin.txt", "deep/greek.txt"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(b"caf\xe9\n")
    return top


def test_every_combination_once(load: Load, wildcards: Path) -> None:
    experiment = load(HEAD + "{dynamic: 'a {red|blue|red} __animal__', wildcards: wild}")
    assert values_of(experiment, "prompt") == ["a red cat", "a red dog", "a blue cat", "a blue dog"]
    nested = load(HEAD + "{dynamic: [__scene__, plain], wildcards: wild}")
    assert values_of(nested, "prompt") == ["a cat at dawn", "a cat at dusk", "a dog at dawn", "a dog at dusk", "plain"]
    for symbol, expected in {"!": ["a cat", "a dog"], "@": ["a cat"]}.items():  # how the library takes from the list
        sampled = load(HEAD + f"{{dynamic: 'a __{symbol}animal__', wildcards: wild}}")
        assert values_of(sampled, "prompt") == expected


def test_a_byte_order_mark_of_a_wildcard_file_is_no_part_of_a_prompt(load: Load, wildcards: Path) -> None:
    (wildcards / "place.txt").write_text("wood\nsea\n", encoding="utf-8-sig")
    assert set(values_of(load(HEAD + "{dynamic: 'a __place__', wildcards: wild}"), "prompt")) == {"a wood", "a sea"}


def test_alternatives_in_a_plain_text_are_noted(load: Load) -> None:
    note = 'prompt: "{red|blue}" is sent as it is. To try each of them, write {dynamic: TEXT} as the axis.'
    assert load("workflow: txt2img\ninputs: {prompt: 'a {red|blue} cup'}").notices == (note,)
    assert load(HEAD + "['a {red|blue} cup', 'a {green|grey} cup']").notices == (note,)
    assert load(HEAD + "{dynamic: 'a {red|blue} cup, {variation}'}").notices == ()


def test_the_place_of_the_variation_is_kept(load: Load, faults: Fail, wildcards: Path) -> None:
    experiment = load(HEAD + "{dynamic: 'a {red|blue} cup, {variation}, {variation}'}")
    assert values_of(experiment, "prompt") == [f"a {c} cup, {{variation}}, {{variation}}" for c in ("red", "blue")]
    variable = load(HEAD + "{dynamic: '${variation={red|blue}}a ${variation} cup, {variation}'}")  # of the library
    assert values_of(variable, "prompt") == [f"a {c} cup, {{variation}}" for c in ("red", "blue")]
    joined = load(HEAD + "{dynamic: '{2$$, $${variation}|b}'}")
    assert values_of(joined, "prompt") == ["{variation}, b", "b, {variation}"]
    (wildcards / "end.txt").write_text("at dawn, {variation}\n")
    (line,) = faults(HEAD + "{dynamic: 'a cup __end__', wildcards: wild}")
    assert "the wildcard end holds {variation}; write {variation} in the template instead" in line


def test_under_another_name_it_sets_the_prompt(load: Load) -> None:
    experiment = load("workflow: txt2img\naxes: {colour: {dynamic: '{red|blue} car'}}")
    assert [settings_at(experiment, v) for v in experiment.grid] == [{"prompt": "red car"}, {"prompt": "blue car"}]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{dynamic: 'a __bird__', wildcards: wild}", "the wildcard bird has no values. Is there a file bird.txt?"),
        ("{dynamic: 'a __bird__'}", "the wildcard bird needs a folder of text files: add wildcards: FOLDER"),
        ("{dynamic: 'a __anmal__', wildcards: wild}", "the wildcard anmal has no values. Did you mean animal?"),
        ("{dynamic: 'a __latin__', wildcards: wild}", "wild/latin.txt is not UTF-8 text (byte 3); save it as UTF-8"),
        ("{dynamic: 'a __l*tin__', wildcards: wild}", "wild/latin.txt is not UTF-8 text (byte 3); save it as UTF-8"),
        ("{dynamic: 'a __greek__', wildcards: wild}", "wild/deep/greek.txt is not UTF-8 text (byte 3); save it"),
        ("{dynamic: 'a', wildcards: wild/animal.txt}", "wildcards: wild/animal.txt is no folder"),
        ("{dynamic: '__loop__', wildcards: wild}", "the wildcard loop leads back to itself"),
        ("{dynamic: '__../bird__', wildcards: wild}", "the wildcard ../bird leads out of the folder of wildcards"),
        ("{dynamic: '__coat(season=winter)__', wildcards: wild}", "the wildcard coat has no values"),
        ("{dynamic: '__a:b__', wildcards: wild}", "the wildcard a:b has no values. Is there a file a:b.txt?"),
        ("{dynamic: 'a __~animal__', wildcards: wild}", "draws with ~, so it would be other prompts at every load"),
        ("{dynamic: 'a {2$$x|y} {~red|blue}'}", "draws with ~, so it would be other prompts at every load"),
        ("{dynamic: 'a', wildcards: in/none}", "wildcards: in/none is no folder"),
        ("{dynamic: 'a {red|blue'}", "the template 'a {red|blue' cannot be read"),
    ],
)
def test_faults(faults: Fail, wildcards: Path, spec: str, message: str) -> None:
    (line,) = faults(HEAD + spec)
    assert message in line
    assert line.startswith("3:21  axes.prompt: ")


def test_prompts_have_a_limit(faults: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value_files.MAX_PROMPTS == 100_000
    monkeypatch.setattr(value_files, "MAX_PROMPTS", 1_000)
    (line,) = faults(HEAD + f"{{dynamic: '{'{a|b|c|d|e|f|g|h|i|j}' * 6}'}}")
    assert line == "3:21  axes.prompt: the templates make more than 1,000 prompts."


def test_without_the_library_it_says_how_to_get_it(faults: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("dynamicprompts"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (line,) = faults(HEAD + "{dynamic: '{a|b}'}")
    assert 'needs dynamicprompts; pip install "sweep-engine[dynamic]" brings it' in line
