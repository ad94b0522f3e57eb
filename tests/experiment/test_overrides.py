"""A file wins over the files it includes, and --set wins over both; a path that leads nowhere is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sweep.errors import ExperimentError, UsageError
from sweep.experiment.axes import InputImage
from sweep.experiment.experiment import Experiment
from tests.experiment.conftest import Fail, Load, values_of

PLAIN = "workflow: txt2img\ninputs: {prompt: a, steps: 3}\naxes: {seed: {start: 1, count: 3}, a.b: [1, 2]}"


def test_include_is_merged_entry_by_entry(load: Load, folder: Path) -> None:
    (folder / "base.yaml").write_text(
        "workflow: img2img\ndescription: base\ninputs: {prompt: a, steps: 9}\n"
        "axes: {cfg_scale: {start: 1, stop: 3, step: 1}, seed: [1, 2], steps: [3, 4]}"
    )
    experiment = load(
        "include: base.yaml\ndescription: top\ninputs: {steps: 10}\naxes: {cfg_scale: [4], steps: null, variation: [x]}"
    )
    assert experiment.description == "top"
    assert experiment.workflow == "img2img"
    assert experiment.inputs == {"prompt": "a", "steps": 10}
    assert [axis.name for axis in experiment.axes] == ["cfg_scale", "seed", "variation"]
    assert values_of(experiment, "cfg_scale") == [4.0]


def test_paths_of_a_base_file_start_from_its_folder(load: Load, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "base.yaml").write_text("workflow: img2img\ninputs: {image: ../shots/a.png}")
    (folder / "more.yaml").write_text("include: deep/base.yaml\ninputs: {steps: 4}")
    image = load("include: [more.yaml]").inputs["image"]
    assert isinstance(image, InputImage)
    assert image.path == folder / "shots" / "a.png"
    assert image.shown == "shots/a.png"


def test_a_later_base_wins_over_an_earlier(load: Load, folder: Path) -> None:
    (folder / "one.yaml").write_text("workflow: img2img\ninputs: {steps: 1, prompt: one}")
    (folder / "two.yaml").write_text("inputs: {steps: 2}")
    assert load("include: [one.yaml, two.yaml]").inputs == {"steps": 2, "prompt": "one"}


def test_a_fault_in_a_base_file_is_told_with_its_name_and_place(faults: Fail, folder: Path) -> None:
    (folder / "base.yaml").write_text("workflow: img2img\ninputs:\n  steps: 0\n")
    assert faults("include: base.yaml\ninputs: {sed: 1}") == [
        "2:10  inputs.sed is no input: neither a role nor NODE.FIELD. Did you mean seed?",
        "inputs.steps is 0, but must be at least 1 (base.yaml 3:10).",
    ]


def test_circles_and_missing_bases_are_refused(faults: Fail, folder: Path) -> None:
    (folder / "a.yaml").write_text("include: b.yaml")
    (folder / "b.yaml").write_text("include: a.yaml")
    assert "include goes in a circle: test.yaml → a.yaml → b.yaml → a.yaml" in faults("include: a.yaml")[0]
    assert "include goes in a circle: test.yaml → test.yaml" in faults("include: test.yaml")[0]
    assert faults("workflow: txt2img\ninclude: none.yaml") == ["2:10  include: none.yaml does not exist."]
    assert faults("include: 3") == ["1:10  include must be a file, or a list of files."]
    (folder / "list.yaml").write_text("- a")
    assert faults("include: list.yaml") == ["1:10  include: list.yaml does not hold a mapping."]


def test_overrides(load: Load) -> None:
    experiment = load(
        PLAIN,
        [
            "axes.seed.count=2",
            "axes.a.b=[5, 6]",
            "axes.a.b.1=7",
            "inputs.steps=30",
            "inputs.noise.width=64",
            "axes.cfg_scale=[2, 3.5]",
            "name=other",
            "study.replicates=2",
            "design.kind=random",
            "design.points=3",
            "design.seeds=one",
        ],
    )
    assert values_of(experiment, "seed") == [1, 2]
    assert values_of(experiment, "a.b") == [5, 7]
    assert values_of(experiment, "cfg_scale") == [2.0, 3.5]
    assert experiment.inputs == {"prompt": "a", "steps": 30, "noise.width": 64}
    assert (experiment.name, experiment.study.replicates, len(experiment.grid)) == ("other", 2, 3)
    assert "count: 2" in experiment.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("axes.seeed.count=3", "no key axes.seeed.count. Did you mean axes.seed?"),
        ("axis.seed=[1]", "no key axis.seed. Did you mean axes?"),
        ("inputs.stps=3", "no key inputs.stps. Did you mean inputs.steps?"),
        ("steps=3", "no key steps. Did you mean inputs.steps?"),
        ("seed=3", "no key seed. Did you mean axes.seed?"),
        ("stps=3", "no key stps. Did you mean inputs.steps?"),
        ("inputs.steps", "has no value"),
        ("=3", "has no value"),
        ("design.pionts=3", "no key design.pionts. Did you mean design.points?"),
        ("name.x=3", "name is one value"),
        ("inputs.cfg_scale=[2,3", "this bracket is never closed; ] is missing."),
        ("axes.a.b.7=3", "axes.a.b holds no 7"),
        ("axes.seed.start.x=3", "axes.seed.start holds no x"),
    ],
)
def test_overrides_that_lead_nowhere(load: Load, override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(PLAIN, [override])
    assert message in str(caught.value)


def test_a_wrong_value_names_the_override(load: Load) -> None:
    with pytest.raises(ExperimentError, match=r"inputs.steps is 0, but must be at least 1 \(--set inputs.steps\)"):
        load(PLAIN, ["inputs.steps=0"])
    with pytest.raises(
        ExperimentError, match=r"replicates must be a whole number, not \"x\" \(--set study.replicates\)"
    ):
        load(PLAIN, ["study.replicates=x"])


def test_folder_says_where_paths_start(load: Load, folder: Path) -> None:
    experiment = load("workflow: img2img\nfolder: shots\ninputs: {image: a.png}")
    assert experiment.folder == folder / "shots"
    assert (folder / "shots").as_posix() in experiment.text


@pytest.mark.parametrize(
    ("axis", "overrides", "names"),
    [
        ("{images: shots/*.png}", [], ["../../base/shots/a.png", "../../base/shots/b.png"]),
        ("{images: [shots/a*, shots/b*]}", [], ["../../base/shots/a.png", "../../base/shots/b.png"]),
        ("[shots/a.png, c.png]", ["axes.image.1=c.png"], ["../../base/shots/a.png", "c.png"]),
        ("[shots/a.png]", ["axes.image=[c.png]"], ["c.png"]),
        ("{csv: rows.csv, column: image}", [], ["c.png", "../../base/shots/b.png"]),
        ("{settings: looks.json}", [], ["c.png"]),
    ],
)
def test_paths_start_from_the_file_that_holds_them(
    tmp_path: Path, axis: str, overrides: list[str], names: list[str]
) -> None:
    """In a base file from its folder; given by --set, or in a table that it names, from that of the experiment."""
    base, own = tmp_path / "base", tmp_path / "own" / "deep"
    own.mkdir(parents=True)
    for path in (base / "shots" / "a.png", base / "shots" / "b.png", own / "c.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (ord(path.stem), 0, 0)).save(path)
    (base / "rows.csv").write_text("image\nc.png\n../../base/shots/b.png\n")
    (base / "looks.json").write_text('{"c": {"image": "c.png"}}')
    (base / "base.yaml").write_text(f"workflow: img2img\naxes: {{image: {axis}}}")
    (own / "x.yaml").write_text("include: ../../base/base.yaml")

    experiment = Experiment.load(own / "x.yaml", overrides)

    assert [image.shown for image in experiment.images().values()] == names
    assert Experiment.from_text(experiment.text).images() == experiment.images()


def test_folder_holds_for_the_experiment_and_not_for_its_base(load: Load, folder: Path) -> None:
    (folder / "base.yaml").write_text("workflow: img2img\ninputs: {image: shots/a.png, control_image: shots/a.png}")

    experiment = load("include: base.yaml\nfolder: shots\ninputs: {control_image: a.png}")

    assert [image.shown for image in experiment.inputs.values() if isinstance(image, InputImage)] == ["a.png", "a.png"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("inputs.prompt=photo: cat", "YAML reads photo: cat as a mapping."),
        ("inputs.prompt=#hashtag", "YAML reads #hashtag as a comment."),
        ("inputs.prompt=[a cat:1.2]", "YAML reads [a cat:1.2] as a list."),
        ("inputs.prompt=&cat", "YAML reads &cat as nothing."),
        ("inputs.prompt={red|blue} cat", "--set inputs.prompt={red|blue} cat:"),
    ],
)
def test_a_text_that_lost_its_quotes_in_the_shell_is_answered_with_them(
    load: Load, override: str, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(PLAIN, [override])

    path, _, text = override.partition("=")
    assert problem in str(caught.value)
    assert f"""--set '{path}="{text}"'""" in str(caught.value)
    assert load(PLAIN, [f'{path}="{text}"']).inputs["prompt"] == text


def test_an_override_that_looks_like_a_number_is_quoted_as_it_is_written(load: Load) -> None:
    with pytest.raises(ExperimentError, match='needs quotes: "007"'):
        load(PLAIN, ["inputs.prompt=007"])
