"""Each kind of axis makes its levels, sets its targets, and reports its problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.errors import ExperimentError
from sweep.experiment.axes import Replacement
from sweep.experiment.experiment import Experiment
from sweep.input_images import InputImage
from tests.experiment.conftest import Fail, Load, settings_at, values_of, with_axes

HEAD = "workflow: img2img\ninputs: {prompt: a red car}\naxes:\n  "


def only(experiment: Experiment) -> tuple[str, str, list[Any]]:
    (axis,) = experiment.axes
    return axis.name, axis.kind, [level.value for level in axis.levels]


@pytest.mark.parametrize(
    ("axis", "kind", "values"),
    [
        ("steps: [10, 20]", "integer", [10, 20]),
        ("cfg_scale: [4, 7.5]", "number", [4.0, 7.5]),
        ("seed: [3, 1]", "seed", [3, 1]),
        ("seed: {start: 42, count: 4}", "seed", [42, 43, 44, 45]),
        ("noise.seed: [1, 2]", "seed", [1, 2]),
        ("variation: [yes, no]", "text", ["yes", "no"]),
        ("scheduler: [euler, ddim]", "text", ["euler", "ddim"]),
        ("model: [a, b@sdxl]", "text", ["a", "b@sdxl"]),
        ("lora: [null, film]", "text", [None, "film"]),
        ("vae: [null, fine]", "text", [None, "fine"]),
        ("board: [one, two]", "text", ["one", "two"]),
        ("l2i.tiled: [true, false]", "boolean", [True, False]),
        ("denoise.steps: [1, 2]", "integer", [1, 2]),
        ("denoise.cfg: [1, 2.5]", "number", [1.0, 2.5]),
        ("image: [shots/a.png]", "image", ["shots/a.png"]),
        ("image: {images: 'shots/*.png'}", "image", ["shots/a.png", "shots/b c.png"]),
        ("control_weight: {start: 0.5, stop: 1.5, num: 3}", "number", [0.5, 1.0, 1.5]),
    ],
)
def test_values_and_kinds(load: Load, axis: str, kind: str, values: list[Any]) -> None:
    name = axis.split(":")[0]
    experiment = load(HEAD + axis)
    assert only(experiment) == (name, kind, values)
    assert [type(v) for v in only(experiment)[2]] == [type(v) for v in values]
    for level in experiment.axes[0].levels:
        assert list(level.settings) == [name]
        setting = level.settings[name]
        assert (setting.shown if isinstance(setting, InputImage) else setting) == level.value


def test_a_name_of_ones_own_says_its_target(load: Load) -> None:
    experiment = load(HEAD + "text: {target: [pos.prompt, pos2.prompt], values: [a, b]}")
    assert only(experiment) == ("text", "text", ["a", "b"])
    assert experiment.axes[0].levels[1].settings == {"pos.prompt": "b", "pos2.prompt": "b"}


def test_labelled_values_set_several_things(load: Load) -> None:
    experiment = load(
        HEAD
        + "look: {values: {soft: {prompt: soft light, cfg_scale: 4}, photo: {image: shots/a.png}, plain: {steps: 5}}}"
    )
    assert only(experiment) == ("look", "label", ["soft", "photo", "plain"])
    soft, photo, _ = (level.settings for level in experiment.axes[0].levels)
    assert soft == {"prompt": "soft light", "cfg_scale": 4}
    assert isinstance(photo["image"], InputImage)
    assert [settings_at(experiment, v)["prompt"] for v in experiment.grid] == ["soft light", "a red car", "a red car"]


def test_labels_over_one_target(load: Load) -> None:
    experiment = load(HEAD + "lora: {values: {none: null, one: film, two: [{name: film, weight: 0.5}, grain]}}")
    assert [level.settings["lora"] for level in experiment.axes[0].levels] == [
        None,
        "film",
        [{"name": "film", "weight": 0.5}, "grain"],
    ]


def test_controls_hold_images(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs:\n  controls:\n"
        "    - {model: canny, image: shots/a.png, weight: 0.8, begin: 0, end: 0.5}\n"
        "  node.image: {image: shots/b c.png}"
    )
    controls = experiment.inputs["controls"]
    assert isinstance(controls, list)
    (control,) = controls
    assert control["weight"] == 0.8
    assert isinstance(control["image"], InputImage)
    assert isinstance(experiment.inputs["node.image"], InputImage)
    assert len(experiment.images()) == 2


def test_lines_of_a_file(load: Load, folder: Path) -> None:
    (folder / "p.txt").write_text("\ufeffred car\r\n\n# not this\r\n  blue car \nred car\n", encoding="utf-8")
    experiment = load(HEAD + "prompt: {lines: p.txt}")
    assert only(experiment) == ("prompt", "text", ["red car", "blue car"])
    assert experiment.notices == ("axes.prompt: 1 of 3 values of p.txt are repeats and left out.",)
    (folder / "n.txt").write_text("1\n2.5\n")
    assert only(load(HEAD + "cfg_scale: {lines: n.txt}"))[2] == [1.0, 2.5]
    assert only(load(HEAD + "prompt: {lines: n.txt}"))[2] == ["1", "2.5"]


def test_columns_of_a_csv_file(load: Load, folder: Path) -> None:
    (folder / "t.csv").write_text('prompt;guidance;n\n"a; b";4;1\nb;5.5;1\n', encoding="utf-8")
    assert only(load(HEAD + "prompt: {csv: t.csv}"))[2] == ["a; b", "b"]
    assert only(load(HEAD + "cfg_scale: {csv: t.csv, column: guidance}"))[2] == [4.0, 5.5]
    both = load(HEAD + "rows: {csv: t.csv, columns: {prompt: prompt, cfg_scale: guidance, steps: n}}")
    assert [list(v.values.values()) for v in both.grid] == [["a; b", 4.0, 1], ["b", 5.5, 1]]


def test_settings_of_a_json_or_yaml_file(load: Load, folder: Path) -> None:
    (folder / "looks.json").write_text('{"soft": {"prompt": "s", "cfg_scale": 4}, "hard": {"image": "shots/a.png"}}')
    experiment = load(HEAD + "look: {settings: looks.json}")
    assert only(experiment) == ("look", "label", ["soft", "hard"])
    assert isinstance(experiment.axes[0].levels[1].settings["image"], InputImage)
    (folder / "list.yaml").write_text("- {label: few, steps: 5}\n- {steps: 50}\n")
    assert only(load(HEAD + "look: {settings: list.yaml}"))[2] == ["few", "2"]


def test_search_and_replace(load: Load) -> None:
    experiment = load(HEAD + "colour: {replace: red, with: [red, blue]}\n  thing: {replace: car, with: [boat]}")
    assert experiment.axes[0].levels[1].settings == {"prompt": Replacement(search="red", by="blue")}
    assert [settings_at(experiment, v)["prompt"] for v in experiment.grid] == ["a red boat", "a blue boat"]


def test_replacement_in_what_only_the_workflow_says() -> None:
    experiment = with_axes({"colour": {"replace": "red", "with": ["blue"], "target": "pos.prompt"}})
    assert settings_at(experiment, experiment.grid[0], {"pos.prompt": "a red hat"}) == {"pos.prompt": "a blue hat"}


def test_zip_of_every_kind(load: Load, folder: Path) -> None:
    (folder / "p.txt").write_text("x\ny\n")
    experiment = load(
        HEAD + "zip:\n    prompt: {lines: p.txt}\n    seed: {start: 1, count: 2}\n    image: {images: shots/*}\n"
        "  more:\n    zip: {steps: [1, 1], cfg_scale: {start: 1, stop: 2, step: 1}}"
    )
    assert [len(dimension.axes) for dimension in experiment.dimensions] == [3, 2]
    assert list(experiment.grid[3].values.values()) == ["y", 2, "shots/b c.png", 1, 2.0]


def test_seeds_by_count_are_drawn_later_and_once() -> None:
    experiment = with_axes({"seed": {"count": 3}, "zip": {"noise.seed": {"count": 2}, "prompt": ["a", "b"]}})
    assert experiment.undrawn == {"seed": 3, "noise.seed": 2}
    assert len(experiment.grid) == 6
    drawn = experiment.with_seeds({"seed": (9, 8, 7)}).with_seeds({"noise.seed": [1, 2]})
    assert not drawn.undrawn
    assert values_of(drawn, "seed") == [9, 8, 7]
    assert drawn.grid[5].values == {"seed": 7, "noise.seed": 2, "prompt": "b"}
    assert drawn.axes[0].kind == "seed"


def test_seeds_that_were_not_asked_for() -> None:
    from sweep.errors import ExperimentError

    experiment = with_axes({"seed": {"count": 3}, "steps": [1, 2]})
    for wrong in ({"steps": [1, 2]}, {"seed": [1, 2]}, {"seed": [1, 1, 2]}, {"seed": [1, 2, 2**32]}):
        with pytest.raises(ExperimentError):
            experiment.with_seeds(wrong)
    with pytest.raises(ExperimentError, match="not drawn"):
        _ = experiment.grid[0]


@pytest.mark.parametrize(
    ("axis", "problem"),
    [
        ("steps: []", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps:", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps: {}", "4:3  axes.steps is empty; an axis needs at least one value"),
        ("steps: 5", "4:3  axes.steps must be a list or a mapping, not 5; for one fixed value, set it under inputs"),
        ("steps: [1, 2.5]", "4:14  axes.steps must be a whole number, not 2.5"),
        ("steps: [20, 20]", "4:15  axes.steps: 20 appears twice (values 1 and 2)"),
        ("cfg_scale: [4, 4.0]", "4:18  axes.cfg_scale: 4 appears twice (values 1 and 2)"),
        ("steps: {start: 1, stop: 2, step: 0.5}", "4:3  axes.steps must be whole numbers; these steps are not"),
        ("steps: {start: 1, stop: 2, stp: 1}", "4:30  axes.steps.stp is not known here. Did you mean step?"),
        ("seed: {start: 1, cnt: 2}", "4:20  axes.seed.cnt is not known here. Did you mean count?"),
        (
            "prompt: [a, 3]",
            '4:15  axes.prompt must be text, not 3; text that looks like something else needs quotes: "3"',
        ),
        ("a.b: [true, 1]", "4:15  axes.a.b mixes true or false and numbers: true, 1"),
        ("a.b: [{x: 1}]", "4:9  axes.a.b.0 must be one plain value, not a mapping; values with parts get a label: "),
        (
            "sed: {count: 4}",
            "4:3  axes.sed is neither an input (such as prompt) nor a NODE.FIELD. Did you mean seed?",
        ),
        (
            "x: {values: [1], target: promt}",
            "4:28  axes.x: target promt is neither an input (such as prompt) nor a NODE.FIELD. Did you mean ",
        ),
        ("model: {strat: 1}", "4:3  axes.model is not a kind of axis: it has strat. Did you mean start?"),
        ("denoise_strength: [0.2, 1.2]", "4:27  axes.denoise_strength is 1.2, but must be 0 to 1"),
        (
            "denoise_strength: {start: 0.2, stop: 1.2, step: 0.2}",
            "4:40  axes.denoise_strength reaches 1.2, but denoise_strength must be 0 to 1",
        ),
        ("steps: {start: 0, stop: 4, step: 1}", "4:18  axes.steps reaches 0, but steps must be at least 1"),
        ("prompt: {start: 0, stop: 4, step: 1}", "4:3  axes.prompt holds numbers, but prompt is set to a text"),
        ("seed: {start: 4294967295, count: 2}", "4:17  axes.seed: seeds are 0 to 4294967295; these reach 4294967296"),
        ("steps: {count: 3}", "4:3  axes.steps: count draws seeds, and steps is none; a range has start and stop"),
        ("zip: {prompt: [a, b, c], seed: [1, 2, 3, 4]}", "4:28  zip: prompt has 3 values, seed has 4."),
        ("zip: {prompt: [a, a], seed: [1, 1]}", "4:3  axes.zip: values 1 and 2 of all its axes are the same"),
        ("zip: {prompt: [a]}", "4:3  axes.zip needs at least two axes that step together"),
        (
            "l: {values: {a: x}}",
            "4:19  axes.l.a does not say what it sets; l is neither an input such as prompt nor NODE.FIELD",
        ),
        ("l: {values: {a: {}}}", "4:19  axes.l.a sets nothing"),
        (
            "l: {a: {steps: 3}, b: {steps: 4}}",
            "4:3  axes.l is not a kind of axis: it has a, b. If these are labels, write values: above them",
        ),
        (
            "l: {zip: {prompt: [a, b], more: {zip: {seed: [1, 2], steps: [3, 4]}}}}",
            "4:35  axes.l.zip.more is a zip inside a zip; list its axes in the outer one",
        ),
        ("l: {zip: {prompt: [a, b], seed: [1, 2]}, target: seed}", "4:44  axes.l cannot have target beside zip"),
        ("l: {csv: a.csv, columns: [prompt], target: seed}", "4:6  axes.l has both target and columns; one of them"),
        ("seed: {count: 2, each_cell: yes}", '4:31  axes.seed.each_cell must be true or false, not "yes"'),
        ('"seed ": [1]', '4:3  axes: "seed " is no name of an axis; write it on one line, in 1 to 100 characters,'),
        ("l: {values: {}}", "4:15  axes.l is empty; an axis needs at least one value"),
        ("image: [shots/nope.png]", "4:11  axes.image.0 names shots/nope.png, which does not exist"),
        ("image: [bad.png]", "4:11  axes.image.0 names bad.png, which is no PNG: it does not decode as an image"),
        ("image: [shots]", "4:11  axes.image.0 names shots, which is a folder"),
        ("image: {images: 'no/*'}", "4:19  axes.image: no file matches no/*"),
        ("prompt: {lines: nope.txt}", "4:19  axes.prompt: nope.txt does not exist"),
        ("prompt: {csv: nope.csv}", "4:17  axes.prompt: nope.csv does not exist"),
        ("c: {replace: green, with: [blue]}", '4:16  axes.c: "green" does not occur in the prompt "a red car"'),
        ("c: {replace: red, with: []}", "4:27  axes.c: with is empty; an axis needs at least one value"),
        ("lora: {replace: red, with: [a]}", "4:19  axes.lora: replace makes texts, but lora is none"),
        ("lora: [{name: a}]", "4:10  axes.lora.0 must be one plain value, not a mapping"),
    ],
)
def test_faults(faults: Fail, axis: str, problem: str) -> None:
    found = faults(HEAD + axis)
    assert any(line.startswith(problem) for line in found), found


def test_every_fault_of_one_axis_is_told(faults: Fail) -> None:
    assert len(faults(HEAD + "steps: [0, 1, -3]")) == 2
    labelled = "l: {values: {a: {stps: 3, prompt: 3}, b: {steps: 0, image: nope.png}}}"
    assert [line.split()[1] for line in faults(HEAD + labelled)] == [
        "axes.l.values.a.stps",
        "axes.l.values.a.prompt",
        "axes.l.values.b.steps",
        "axes.l.values.b.image",
    ]


def test_two_axes_may_not_set_one_thing(faults: Fail) -> None:
    both = "prompt: [a, b]\n  look: {values: {x: {prompt: c}}}"
    assert faults(HEAD + both) == ["5:3  axes prompt and look both set prompt."]
    again = "seed: [1]\n  more: {zip: {seed: [1, 2], steps: [1, 2]}}"
    assert any("two axes named seed" in line for line in faults(HEAD + again))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "prompt,b\n1\n", "row 2 has 1 cells, the header 2"),
        ("t.csv", "a,b\n", "holds no row below its header"),
        ("t.csv", 'prompt\n"x\n', "is not CSV"),
        ("t.csv", "promt\nx\n", "has no column prompt. Did you mean promt?"),
        ("t.csv", "Bild,SKU\nx,1\n", "has no column prompt. It has Bild, SKU."),
        ("t.txt", "\n# only this\n", "holds no line"),
        ("t.json", "[1, 2]", "entry 1 must be a mapping"),
        ("t.json", '{"a": 1}', "a must be a mapping of what it sets, not 1"),
        ("t.json", '{"a": {}}', "a sets nothing"),
        ("t.json", "3", "must hold a mapping of labels"),
        ("t.json", '{"a": {', "t.json: 1:8"),
        ("t.json", '[{"label": "x", "steps": 1}, {"label": "x", "steps": 2}]', "the label x appears twice"),
    ],
)
def test_files_of_values_that_are_wrong(faults: Fail, folder: Path, name: str, content: str, said: str) -> None:
    (folder / name).write_text(content)
    key = {"csv": "csv", "txt": "lines", "json": "settings"}[name.split(".")[1]]
    (line,) = faults(HEAD + f"prompt: {{{key}: {name}}}")
    assert said in line


def test_a_file_of_values_that_is_not_utf8(faults: Fail, folder: Path) -> None:
    (folder / "p.txt").write_bytes(b"caf\xe9\n")
    assert "p.txt is not UTF-8 text (byte 3); save it as UTF-8" in faults(HEAD + "prompt: {lines: p.txt}")[0]


@pytest.mark.parametrize(
    ("prompt", "axes", "last"),
    [
        (
            "a red cat",
            "colour: {replace: red, with: [cat-like]}, animal: {replace: cat, with: [dog]}",
            "a cat-like dog",
        ),
        (
            "age 20, 20mm lens",
            'age: {replace: "20", with: ["30"]}, lens: {replace: 20mm, with: [85mm]}',
            "age 30, 85mm lens",
        ),
        (
            "age 20, 20mm lens",
            'lens: {replace: 20mm, with: [85mm]}, age: {replace: "20", with: ["30"]}',
            "age 30, 85mm lens",
        ),
    ],
)
def test_replacements_act_on_the_prompt_as_written_all_at_once(load: Load, prompt: str, axes: str, last: str) -> None:
    experiment = load(f"workflow: txt2img\ninputs: {{prompt: '{prompt}'}}\naxes: {{{axes}}}")

    assert settings_at(experiment, experiment.grid[-1])["prompt"] == last


def test_a_replacement_inside_longer_words_is_noticed(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs: {prompt: 'a cat in a cathedral, category art'}\n"
        "axes: {animal: {replace: cat, with: [cat, dog]}}"
    )

    assert experiment.notices == (
        'axes.animal: "cat" occurs 3 times in the prompt, 2 of them inside a longer word; all of them are replaced.',
    )


def test_a_notice_counts_no_text_that_another_axis_replaces(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs: {prompt: 'age 20, 20mm lens'}\n"
        'axes: {age: {replace: "20", with: ["20", "30"]}, lens: {replace: 20mm, with: [20mm, 50mm]}}'
    )

    assert experiment.notices == ()


def test_two_axes_that_replace_the_same_word_are_refused(faults: Fail) -> None:
    found = faults(HEAD + "a: {replace: red, with: [blue]}\n  b: {replace: red, with: [green]}")
    assert found == ['5:16  axes.a and axes.b both replace "red".']


def test_a_word_that_only_occurs_within_a_longer_replaced_one_is_refused(load: Load) -> None:
    experiment = load(
        "workflow: txt2img\ninputs: {prompt: 20mm lens}\n"
        'axes: {a: {replace: "20", with: ["30"]}, b: {replace: 20mm, with: [85mm]}}'
    )
    with pytest.raises(ExperimentError, match='"20" occurs in "20mm lens" only within "20mm", which is replaced, too'):
        settings_at(experiment, experiment.grid[0])


def test_a_wrong_path_in_a_table_is_told_with_its_row(faults: Fail, folder: Path) -> None:
    table = "Photo,Text,n\nsource.png,a,1\nsource.png,b,2\n\ngone.png,c,1\n"
    (folder / "s.csv").write_text(table, encoding="utf-8")
    Image.new("RGB", (64, 64)).save(folder / "source.png")
    shot = "shot: {csv: s.csv, columns: {image: Photo, prompt: Text}, count: n}"
    for axis, place in (("image: {csv: s.csv, column: Photo}", "image"), (shot, "shot.columns.image")):
        (line,) = faults(HEAD + axis)
        assert f"axes.{place}: s.csv row 5, Photo names gone.png, which does not exist" in line


def test_all_columns_that_a_table_lacks_are_told_at_once(faults: Fail, folder: Path) -> None:
    (folder / "s.csv").write_text("Bild,Prompt\nx.png,a\n", encoding="utf-8")
    (line,) = faults(HEAD + "shot: {csv: s.csv, columns: {image: bild, prompt: Promt}, title: Title}")
    assert "s.csv has no column bild, Promt, Title. It has Bild, Prompt." in line


def test_table_cells_are_read_as_the_role_wants_them(load: Load, folder: Path) -> None:
    (folder / "s.csv").write_text("Prompt,Steps\na cat,20.0\na dog,8\n", encoding="utf-8")
    (folder / "comma.csv").write_text("cfg;n\n7,5;1\n8;2\n", encoding="utf-8")

    shots = load(HEAD + "shot: {csv: s.csv, columns: {prompt: Prompt, steps: Steps}}")
    guided = load(HEAD + "cfg_scale: {csv: comma.csv, column: cfg}")

    assert [list(v.values.values()) for v in shots.grid] == [["a cat", 20], ["a dog", 8]]
    assert only(guided)[2] == [7.5, 8.0]
    assert only(load(HEAD + "steps: [4.0, 8]"))[2] == [4, 8]
    assert load("workflow: txt2img\ninputs: {steps: 4.0}").inputs["steps"] == 4


@pytest.mark.parametrize(
    ("table", "axis", "problem"),
    [
        ("Prompt,Steps\na cat,20.0\na dog,\n", "shot: {csv: t.csv, columns: {prompt: Prompt, steps: Steps}}",
         "axes.shot: t.csv row 3, Steps is empty."),
        ("Prompt,Steps\na cat,few\n", "shot: {csv: t.csv, columns: {prompt: Prompt, steps: Steps}}",
         'axes.shot: t.csv row 2, Steps: "few" is not a number.'),
        ("Prompt;Steps\na cat;8\na dog;7,5\n", "shot: {csv: t.csv, columns: {prompt: Prompt, steps: Steps}}",
         "axes.shot: t.csv row 3, Steps must be a whole number, not 7.5."),
        ("Prompt,Steps\na cat,0\n", "shot: {csv: t.csv, columns: {prompt: Prompt, steps: Steps}}",
         "axes.shot: t.csv row 2, Steps is 0, but must be at least 1."),
        ('Prompt,Steps\na cat,"1,000"\n', "shot: {csv: t.csv, columns: {prompt: Prompt, steps: Steps}}",
         'axes.shot: t.csv row 2, Steps: "1,000" may be a thousand or a decimal number; write it without a comma.'),
        ("cfg,n\n7;5,1\n\n8,2\n", "cfg_scale: {csv: t.csv, column: cfg}",
         'axes.cfg_scale: t.csv row 2, cfg: "7;5" is not a number.'),
        ("a.b\n7\n\"\"\"\"\n", "shot: {csv: t.csv, columns: {prompt: a.b, Titel: a.b}}",
         "axes.shot.columns.Titel is neither an input (such as prompt) nor a NODE.FIELD."),
        ("p,n\na,0\n", "shot: {csv: t.csv, columns: {prompt: p}, count: n}",
         "axes.shot: t.csv row 2, n is 0, but must be 1 to 10000."),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named_by_row_and_column(
    faults: Fail, folder: Path, table: str, axis: str, problem: str
) -> None:
    (folder / "t.csv").write_text(table, encoding="utf-8")

    assert problem in faults(HEAD + axis)[0]


@pytest.mark.parametrize("columns", ["[[a]]", "[{a: b}]", "5"])
def test_columns_of_the_wrong_shape_are_a_problem_with_its_place(faults: Fail, columns: str) -> None:
    found = faults(HEAD + f"shot: {{csv: t.csv, columns: {columns}}}")
    assert found[0].startswith("4:31  axes.shot.columns must be a mapping, not ")


def test_cells_with_true_and_false_are_read_as_the_field_of_an_address_wants_them(load: Load, folder: Path) -> None:
    (folder / "s.csv").write_text("Prompt,Tiled\na cat,TRUE\na dog,False\n", encoding="utf-8")

    shots = load(HEAD + "shot: {csv: s.csv, columns: {prompt: Prompt, decode.tiled: Tiled}}")

    assert [v.values["decode.tiled"] for v in shots.grid] == [True, False]


def test_a_range_written_as_text_in_a_list_is_answered_with_its_mapping(faults: Fail) -> None:
    assert faults(HEAD + "seed: [1-5]")[0].endswith("write {start: 1, stop: 5, step: 1} in place of the list.")


def test_a_workbook_in_place_of_a_table_is_named(faults: Fail, folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"PK\x03\x04rest")

    assert "t.csv is a workbook; save the sheet as CSV" in faults(HEAD + "prompt: {csv: t.csv}")[0]


def test_rows_of_a_table_have_titles_and_counts(load: Load, folder: Path) -> None:
    (folder / "s.csv").write_text("Title,Prompt,Iterations\ncat,a cat,2\ndog,a dog,1\n", encoding="utf-8")

    shots = load(HEAD + "shot: {csv: s.csv, title: Title, count: Iterations, columns: {prompt: Prompt}}")

    assert [v.values for v in shots.grid] == [
        {"shot": "cat", "prompt": "a cat", "seed": 1},
        {"shot": "cat", "prompt": "a cat", "seed": 2},
        {"shot": "dog", "prompt": "a dog", "seed": 1},
    ]


def test_seeds_of_each_cell_differ_and_stay_when_a_level_is_added(load: Load, faults: Fail) -> None:
    text = HEAD + "seed: {each_cell: true, count: 3}\n  steps: [10, 20%s]\n  cfg_scale: [4, 7]"
    few, more = load(text % ""), load(text % ", 30")
    seeds = [point.values["seed"] for point in few.grid]
    assert len(set(seeds)) == len(seeds) == 12
    assert {tuple(point.values.items()) for point in few.grid} < {tuple(point.values.items()) for point in more.grid}
    assert [few.grid.index_of(point.values) for point in few.grid] == list(range(12))
    assert few.grid[5].levels["seed"].settings == {"seed": seeds[5]}
    assert "so a study cannot pair images by seed" in few.notices[0]
    other = load(HEAD + "seed: {each_cell: true, count: 3, start: 2}\n  steps: [10, 20]\n  cfg_scale: [4, 7]")
    assert not set(seeds) & {point.values["seed"] for point in other.grid}

    for wrong, said in {
        "zip: {seed: {each_cell: true, count: 2}, steps: [1, 2]}": "each_cell does not go with zip",
        "seed: {each_cell: true, count: 2}\nwhere: seed > 4": "leave it out",
        "seed: {each_cell: true, count: 9}\ndesign: {kind: rotated, share: 0.5}": "the same seeds at every point",
        "seed: {each_cell: true, count: 2}\nstudy: {baseline: {seed: 1}}": "leave it out",
    }.items():
        assert said in faults(HEAD + wrong)[0]


def test_columns_that_set_nothing_are_told_how_to_be_used(faults: Fail, folder: Path) -> None:
    (folder / "s.csv").write_text("Title,Prompt,Iterations\ncat,a cat,2\n", encoding="utf-8")

    for axis in ("Title: {csv: s.csv}", "shot: {csv: s.csv, columns: [Title]}", "Iterations: {csv: s.csv}"):
        (problem,) = faults(HEAD + axis)
        for said in ("title: COLUMN", "count: COLUMN", "sweep ignores columns that you do not name"):
            assert said in problem
        assert "target:" not in problem
    (problem,) = faults(HEAD + "prompt: {csv: s.csv, column: Prompt, title: Title}")
    assert "write columns: {prompt: COLUMN}, not column" in problem


def test_a_text_that_looks_like_a_number_is_quoted_as_it_is_written(faults: Fail) -> None:
    for written in ("007", "0x10", "1e3", "1.50"):
        assert f'needs quotes: "{written}"' in faults(HEAD + f"variation: [a, {written}]")[0]
        assert f'needs quotes: "{written}"' in faults(HEAD + f"a: {{replace: red, with: [b, {written}]}}")[0]
        assert f'needs quotes: "{written}"' in faults(f"workflow: txt2img\ninputs: {{prompt: {written}}}")[0]


def test_roles_are_found_under_the_names_of_other_tools(faults: Fail) -> None:
    for word, role in {
        "cfg": "cfg_scale", "sampler_name": "scheduler", "guidance": "cfg_scale", "checkpoint": "model",
        "lora_strength": "lora_weight", "strength": "denoise_strength",
    }.items():  # fmt: skip
        assert f"Did you mean {role}?" in faults(HEAD + f"{word}: [1, 2]")[0]


def test_every_image_of_a_list_that_is_missing_is_reported(faults: Fail) -> None:
    assert faults("workflow: img2img\naxes: {image: [shots/a.png, x.png, y.png]}") == [
        "2:29  axes.image.1 names x.png, which does not exist; write the path of your image.",
        "2:36  axes.image.2 names y.png, which does not exist; write the path of your image.",
    ]


def test_the_separator_of_a_csv_file_is_found(load: Load, folder: Path) -> None:
    for text in (
        "\nSteps;Text\n3;a,b,c\n4;d\n",
        "sep=;\r\nSteps;Text\r\n3;a\r\n4;b\r\n",
        '"Text, long, x";Steps\na;3\nb;4\n',
        'Steps,"a;b;c"\n3,x\n   \n4,y\n',
        'Steps;5" frames\n3;"a, b, c"\n4;"d"\n',
    ):
        (folder / "t.csv").write_bytes(text.encode())
        assert only(load(HEAD + "steps: {csv: t.csv, column: Steps}"))[2] == [3, 4], text


def test_lines_end_where_editors_end_them(load: Load, folder: Path) -> None:
    (folder / "p.txt").write_bytes("a\u2028b\r\nc\x85d\re\n".encode())
    assert only(load(HEAD + "prompt: {lines: p.txt}"))[2] == ["a\u2028b", "c\x85d", "e"]


def test_a_label_may_stand_for_a_lora_with_its_weight(load: Load) -> None:
    axis = load(HEAD + "lora: {values: {none: null, soft: {name: glow, weight: 0.3}, both: [glow, ink]}}").axes[0]
    found = [level.settings for level in axis.levels]
    assert found == [{"lora": None}, {"lora": {"name": "glow", "weight": 0.3}}, {"lora": ["glow", "ink"]}]
