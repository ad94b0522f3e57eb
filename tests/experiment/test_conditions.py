"""Conditions select points, are never run as Python, and report their problems with a column."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.experiment.conditions import ConditionError, NamedAxis, compile_clause
from tests.experiment.conftest import Fail

AXES = [
    NamedAxis("denoise_strength", "number"),
    NamedAxis("seed", "number"),
    NamedAxis("my axis", "text", ("é", "b")),
    NamedAxis("noise.2.width", "number"),
    NamedAxis("3.seed", "number"),
    NamedAxis("denoise.steps", "number"),
    NamedAxis("lora", "text", (None, "film")),
    NamedAxis("kind", "text", ("A-003", "ink drawing", "it's", "7", "red")),
    NamedAxis("And", "number"),
    NamedAxis("flag", "boolean"),
]
POINT = {
    "denoise_strength": 0.2,
    "seed": 42,
    "my axis": "é",
    "noise.2.width": 64,
    "denoise.steps": 3,
    "lora": None,
    "flag": True,
    "And": 1,
}


def holds(text: str) -> bool:
    return compile_clause(text, AXES, wanted=True).holds(POINT)


@pytest.mark.parametrize(
    "text",
    [
        "denoise_strength + 0.1 == 0.3",
        "denoise_strength * 3 == 0.6 and 0.1 + denoise_strength == 0.3",
        "seed % 5 == 2 and seed // 5 == 8 and seed / 4 == 10.5",
        "-denoise_strength // 0.3 == -1",
        "`my axis` == 'é' and `noise.2.width` == 64",
        "denoise.steps >= 3",
        "1 < denoise.steps < 4",
        "lora == null and lora is None and not ('x' in lora)",
        "flag and flag == true and not (flag != True)",
        "seed in [1, 42] and seed not in (1, 2)",
        "min(seed, 3) == 3 and max(seed, 3) == 42 and abs(-seed) == 42 and round(denoise_strength * 10) == 2",
        "seed == 1\n or seed == 42",
        "'é' in `my axis`",
        "And == 1 and seed == 42  # this & that => all\n",
        r"""not ('it\'s = & \\' in lora or "'=>" in lora) and seed == 42""",
    ],
)
def test_what_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    ["seed == 43", "round(seed, -1000000000) == 0", "seed % 0 == 1", "seed / (denoise.steps - 3) > 1", "'x' in lora"],
)
def test_what_does_not_hold(text: str) -> None:
    assert not holds(text)


def test_an_exclusion_leaves_what_it_does_not_hold_for() -> None:
    assert not compile_clause("seed == 42", AXES, wanted=False).holds(POINT)
    assert compile_clause("seed == 43", AXES, wanted=False).holds(POINT)
    assert compile_clause("seed / 0 == 43", AXES, wanted=False).holds(POINT)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("`my axis` == 'é' and sed == 43", "there is no axis named sed. Did you mean seed?", 22),
        ("seed > 1 and `my axis` == 'c'", 'my axis has no value "c".', 27),
        ("lora == 'flim'", 'lora has no value "flim". Did you mean film?', 9),
        ("seed = 3", "write == to compare, not =", 6),
        ("seed == 1 && flag", "write and, not &&", 11),
        ("seed == 1 || flag", "write or, not ||", 11),
        ("seed == 1 & flag", "write and, not &", 11),
        ("!(seed == 1)", "write not, not !", 1),
        ("seed == 1 AND flag", "write and, not AND", 11),
        ("seed =< 1", "write <=, not =<", 6),
        ("seed ≥ 1", "write >=, not ≥", 6),
        ("seed <> 1", "write !=, not <>", 6),
        ("seed === 1", "write ==, not ===", 6),
        ("lora == 'a = b' and seed => 1", "write >=, not =>", 26),
        ("lora == film", "put the text film in quotes: 'film'", 9),
        ("seed > 1 and kind == A-003", "put the text A-003 in quotes: 'A-003'", 22),
        ("kind == ink drawing", "put the text ink drawing in quotes: 'ink drawing'", 9),
        ("kind == it's", """put the text it's in quotes: "it's\"""", 9),
        ("kind == 'red' and and seed == 7", 'sweep does not understand "and seed == 7"', 19),
        ("kind == 'a ink drawing b' or or flag", 'sweep does not understand "or flag"', 30),
        ("seed >", "ends before it is complete", 6),
        ("seed > 1 2", 'sweep does not understand "2"', 10),
        ("seed => 1", "write >=, not =>", 6),
        ("my axis == 'c'", "put the name my axis between backticks: `my axis`", 1),
        ("seed > 1 and 3.seed > 1", "put the name 3.seed between backticks: `3.seed`", 14),
        ("`3.seed` = 1", "write == to compare, not =", 10),
        ("lora = 'my axis'", "write == to compare, not =", 6),
        ("seed = 13.seed", "write == to compare, not =", 6),
        ("", "is empty", 1),
        ("1 == 1", "names no axis", 1),
        ("seed", "where something true or false belongs", 1),
        ("seed and flag", "where something true or false belongs", 1),
        ("seed == '42'", "seed is a number, but '42' is text; write numbers without quotes", 9),
        ("lora < 3", "lora is text, but 3 is a number; write '3' for the text 3", 8),
        ("flag < true", "has no order", 8),
        ("'a' * 3 == lora", "counts with text", 1),
        ("seed ** 3 > 1", "an operator that conditions do not know", 1),
        ("seed in seed", "is no list; write in with a list, as in [1, 2]", 9),
        ("seed in (1, 'a')", "seed is a number, but 'a' is text; write numbers without quotes", 13),
        ("abs(seed, seed) == 3", "gives abs 2 values", 1),
        ("seed == 1 #", "sweep does not understand", 1),
        ("x" * 3000, "longer than", 1),
        ("not " * 60 + "flag", "nested too deeply", 205),
    ],
)
def test_faults_say_what_and_where(text: str, message: str, column: int) -> None:
    with pytest.raises(ConditionError) as caught:
        holds(text)
    assert message in caught.value.message
    assert caught.value.column == column


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x') == 3",
        "seed.__class__ == 3",
        "(lambda: seed)() == 1",
        "[x for x in seed] == 3",
        "f'{seed}' == lora",
        "(seed := 3) == 3",
        "seed if flag else 3",
        "'%1000000000d' % 1 == lora",
        "seed[0] == 1",
        "(" * 300 + "seed" + ")" * 300 + " == 1",
    ],
)
def test_nothing_else_is_understood(text: str) -> None:
    with pytest.raises(ConditionError):
        holds(text)


@given(st.text(alphabet="seda1.+-*/%()[]<>=!'`, \n&|né", max_size=30))
def test_any_text_is_a_condition_or_a_fault_with_a_place(text: str) -> None:
    column = 1
    try:
        compile_clause(text, AXES, wanted=True).holds(POINT)
    except ConditionError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


@given(st.integers(-50, 50), st.integers(-50, 50).filter(bool))
def test_division_is_that_of_python_for_whole_numbers(left: int, right: int) -> None:
    point = {**POINT, "seed": left, "denoise.steps": right}
    for text in (f"seed // denoise.steps == {left // right}", f"seed % denoise.steps == {left % right}"):
        assert compile_clause(text, AXES, wanted=True).holds(point)


def test_numbers_out_of_range_are_refused_and_never_raise(faults: Fail) -> None:
    assert (
        "holds a number that is out of range" in faults("workflow: txt2img\naxes: {seed: [1]}\nwhere: 1e999 == seed")[0]
    )
    clause = compile_clause("seed * 1e300 * 1e300 / 1e-300 > 1", [NamedAxis("seed", "number")], wanted=True)
    assert clause.holds({"seed": 2}) in (True, False)


def test_an_axis_is_found_however_its_accents_are_encoded() -> None:
    for written in ("\u00e9", "e\u0301", "\ufb01x"):
        axis = NamedAxis(written, "number")
        for named in (written, f"`{written}`", normalize("NFKC", written)):
            clause = compile_clause(f"{named} == 1", [axis], wanted=True)
            assert clause.names == (written,)
            assert clause.holds({written: 1})
