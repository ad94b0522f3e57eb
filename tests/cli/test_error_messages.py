"""Slips of people: each gets one clear sentence and the right exit code, and nothing is rendered or lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SMALL, Sweep, write_experiment

INPUTS, AXES = SMALL["inputs"], SMALL["axes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """Something wrong with the experiment (`changes`) or the command line (`arguments`), and what is said of it."""

    what: str
    says: str
    code: int = 2
    changes: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("plan", "wrong.yaml")


def inputs(what: str, says: str, **wrong: Any) -> Slip:
    """Of an input."""
    return Slip(what=what, says=says, changes={"inputs": {**INPUTS, **wrong}})


def axes(what: str, says: str, **wrong: Any) -> Slip:
    """Of the axes."""
    return Slip(what=what, says=says, changes={"axes": wrong})


def typed(what: str, says: str, *arguments: str, code: int = 2) -> Slip:
    """On the command line."""
    return Slip(what=what, says=says, arguments=arguments, code=code)


SLIPS = [
    Slip(what="unknown key", says="exclud is not known here. Did you mean exclude?", changes={"exclud": []}),
    inputs("unknown input", "neither an input (such as prompt) nor a NODE.FIELD. Did you mean prompt?", promt="x"),
    inputs("wrong type", 'inputs.steps must be a whole number, not "many"', steps="many"),
    axes("unknown axis", "nor a NODE.FIELD. Did you mean denoise_strength?", denoise_strenght=[0.1]),
    axes("strength 1.2", "axes.denoise_strength is 1.2, but must be 0 to 1", denoise_strength=[0.5, 1.2]),
    axes(
        "range up to 1.2",
        "axes.denoise_strength reaches 1.2, but denoise_strength must be 0 to 1",
        denoise_strength={"start": 0.2, "stop": 1.2, "step": 0.5},
    ),
    axes("step 0", "step is 0, so stop is never reached", denoise_strength={"start": 0, "stop": 1, "step": 0}),
    axes("empty axis", "axes.denoise_strength is empty; an axis needs at least one value", denoise_strength=[]),
    axes(
        "zip of unequal lengths",
        "zip: prompt has 3 values, seed has 4.",
        pair={"zip": {"prompt": ["a", "b", "c"], "seed": [1, 2, 3, 4]}},
    ),
    inputs("missing image", "inputs.image names gone.png, which does not exist", image="gone.png"),
    inputs("a PNG that is none", "inputs.image names fake.png, which is no PNG: it does not decode", image="fake.png"),
    inputs("a drawing", "names drawing.svg, which is not an image that sweep can read; save", image="drawing.svg"),
    inputs(
        "unknown model",
        "inputs.model: the server has no model named sandbox-sd1. Did you mean sandbox-sd15?",
        model="sandbox-sd1",
    ),
    inputs("an image called otherwise", "phot.png, which does not exist. Did you mean photo.png?", image="phot.png"),
    inputs("an image of a folder, called otherwise", "in/phot.png, which does not exist. Did you mean in/photo.png?",
           image="in/phot.png"),
    inputs("a folder for an image", "inputs.image names ., which is a folder.", image="."),
    inputs("text that is a number", 'not 42; text that looks like something else needs quotes: "42"', prompt=42),
    inputs("negative seed", "inputs.seed is -1, but must be 0 to 4294967295.", seed=-1),
    inputs("width 63", "9:12  inputs.width is 63; the field noise.width takes multiples of 8", width=63),
    inputs("one field by both its names", "inputs.noise.seed and axes.seed both set noise.seed.", **{"noise.seed": 3}),
    axes("one field on two axes", "axes.seed and axes.noise.seed both set noise.seed.",
         **{"seed": [1, 2], "noise.seed": [3, 4]}),
    axes("seed too large", "axes.seed is 4294967296, but must be 0 to 4294967295.", seed=[2**32]),
    axes("seed with a point", "axes.seed must be a whole number, not 1.5.", seed=[1.5]),
    axes("a value twice", "axes.seed: 7 appears twice (values 1 and 3).", seed=[7, 8, 7]),
    axes("a value that is no list", "must be a list or a mapping, not 5; for one fixed value, set it under inputs",
         seed=5),
    axes("keys of two kinds", "axes.steps cannot have step beside start, stop, num.",
         steps={"start": 1, "stop": 9, "num": 3, "step": 2}),
    axes("a zip that is a list", "axes.zip must be a mapping of axes that step together.", zip=["prompt", "seed"]),
    axes("a column of another name", "axes.prompt: shots.csv has no column Txt. Did you mean Text?",
         prompt={"csv": "shots.csv", "column": "Txt"}),
    axes("a column twice", "axes.steps: shots.csv has the column n twice.", steps={"csv": "shots.csv", "column": "n"}),
    axes("too many points", "The grid has 1e+18 points; the most is 1e+15.",
         **{"seed": {"count": 10**9, "start": 0}, "noise.width": {"start": 8, "stop": 8 * 10**9, "step": 8}}),
    axes("an input of other workflows", "axes.sampler: img2img has no input named sampler. Did you mean scheduler?\n"
         "This was checked with the sandbox. To check it with your own server, add --server URL.", sampler=["a", "b"]),
    Slip(what="unknown axis in a condition", says="where: there is no axis named sed. Did you mean seed?",
          changes={"where": "sed > 1"}),
    Slip(what="half a condition", says="where: ends before it is complete.", changes={"where": "seed >"}),
    Slip(what="a role at no node", says="roles.seed: the workflow has no node 'nois'. Did you mean noise?",
          changes={"roles": {"seed": "nois.seed"}}),
    Slip(what="unknown design", says='one_at_a_time, rotated or adaptive, not "rnd". Did you mean random?',
          changes={"design": "rnd"}),
    Slip(what="a base that is a folder", says="include: results is a folder, not a file.",
          changes={"include": "results"}),
    Slip(what="a base that includes itself", says="include goes in a circle: wrong.yaml → wrong.yaml.",
          changes={"include": "wrong.yaml"}),
    Slip(what="unknown metric", says="study.metrics: There is no metric ssimm. Did you mean ssim?",
          changes={"study": {"metrics": ["ssimm"]}}, arguments=("run", "wrong.yaml")),
    Slip(what="a name for a device", says='name "con" is no folder name on some systems', changes={"name": "con"}),
    inputs("unknown scheduler", "does not take 'eulr'. Did you mean euler?", scheduler="eulr"),
    axes("unknown scheduler on an axis", "does not take 'dpm'. Did you mean ddpm?", scheduler=["euler", "dpm"]),
    Slip(
        what="every point excluded",
        says="leave no point of the grid",
        changes={"axes": {"seed": [1]}, "exclude": ["seed > 0"]},
    ),
    Slip(what="a condition that is none", says="write == to compare, not =", changes={"exclude": ["seed = 1"]}),
    Slip(what="a name that is a path", says='name "a/b" is no folder name on some systems', changes={"name": "a/b"}),
    Slip(what="missing workflow", says="workflow: gone.json does not exist", changes={"workflow": "gone.json"}),
    Slip(what="unknown template", says="img2imgg is neither a built-in workflow nor a file. Did you mean img2img?",
          changes={"workflow": "img2imgg"}),
    Slip(what="a workflow without nodes", says="workflow: graph.json is not a workflow; it has no nodes. Give a file",
          changes={"workflow": "graph.json", "inputs": None}),
    typed("a workflow that is none", "img2imgg is neither a built-in workflow nor a file. Did you mean img2img?",
          "run", "img2imgg"),
    typed("a workflow to inspect that is none", "neither a built-in workflow nor a file. Did you mean img2img?",
          "inspect", "img2imgg"),
    typed("an address for a cluster", "--on takes ray or ray:HOST:PORT, not http://gpu1:9090.\nTo render on a server "
          "by its address, use sweep run --server URL.", "run", "small.yaml", "--on", "http://gpu1:9090"),
    typed("an empty address", "--on takes ray or ray:HOST:PORT, not nothing.", "workers", "--on", ""),
    typed("a host for a cluster", "use sweep run --server URL.", "run", "small.yaml", "--on", "localhost:9090"),
    typed("a short list for --set", "--set axes.seed: only --axis takes the short form 1,2.\nWrite --set "
          'axes.seed="[1, 2]".', "plan", "small.yaml", "--set", "axes.seed=1,2"),
    typed("a short range for --set", 'Write --set axes.seed="{start: 1, stop: 9, step: 2}".',
          "plan", "small.yaml", "--set", "axes.seed=1:9:2"),
    typed("many", '--concurrency must be a whole number, not "many". For example: --concurrency 2',
          "run", "small.yaml", "--concurrency", "many"),
    typed("no file", "gone.yaml does not exist.", "run", "gone.yaml"),
    typed("a file of another name", "smal.yaml does not exist. Did you mean small.yaml?", "run", "smal.yaml"),
    typed("a workflow for an experiment", "graph.json is a workflow, not an experiment.\nsweep init graph.json writes",
          "plan", "graph.json"),
    typed("an image for an experiment", "photo.png is an image, not an experiment.", "plan", "photo.png"),
    typed("merge keys", "merge.yaml: 1 problem\n  2:3  merge keys (<<) are not part of YAML 1.2", "plan", "merge.yaml"),
    typed("tabs", "2:1  this line is indented with a tab; replace the tab with spaces.", "plan", "tabs.yaml"),
    typed("a key twice", "twice.yaml: 1 problem\n  2:1  name appears twice; first in line 1.", "plan", "twice.yaml"),
    typed("a folder", ". is a folder, not a file.", "run", "."),
    typed("not YAML", "cut.yaml: 1 problem\n  1:8  ", "plan", "cut.yaml"),
    typed("not UTF-8", "bytes.yaml: 1 problem\n  1:1  is UTF-16 text; save it as UTF-8.", "plan", "bytes.yaml"),
    typed("empty file", "empty.yaml is empty.", "plan", "empty.yaml"),
    typed("override without a value", "--set axes.seed has no value.", "plan", "small.yaml", "--set", "axes.seed"),
    typed(
        "override of nothing", 'Did you mean axes?',
        "plan", "small.yaml", "--set", "axess.seed=[1]",
    ),
    typed("no such part", "--shard 6/5 is not a part of a grid.", "run", "small.yaml", "--shard", "6/5"),
    typed("no number to fuse", "--fuse many is not a number of points", "run", "small.yaml", "--fuse", "many"),
    typed("no limit", "--max-failures -3 is not a limit of failures.", "run", "small.yaml", "--max-failures", "-3"),
    typed("no concurrency", '--concurrency must be 1 or more, not "0".', "run", "small.yaml", "--concurrency", "0"),
    typed("unknown progress", "'jsn' is not one of 'auto', 'rich'", "run", "small.yaml", "--progress", "jsn"),
    typed("unknown option", "no option --sevrer. Did you mean --server?", "run", "small.yaml", "--sevrer", "x"),
    typed("unknown command", "sweep has no command named rnu. Did you mean run?", "rnu"),
    typed("no argument", "sweep run needs a file. For example: sweep run experiments/quickstart.yaml", "run"),
    typed("a name nearly right", "sweep has no option --verison. Did you mean --version?", "--verison"),
    typed("no results", "There is no results folder nothing.", "status", "nothing"),
    typed(
        "nobody there", "does not answer (connection refused).",
        "run", "small.yaml", "-s", "http://127.0.0.1:9", code=3,
    ),
    typed(
        "nobody there, with a page", "does not answer",
        "run", "small.yaml", "--view", "-s", "http://127.0.0.1:9", code=3,
    ),
    typed("no address", "is not the address of a server.", "run", "small.yaml", "-s", "gpu1:9090:1"),
    typed("a password with a slash", "'…@host:9090' is not the address", "run", "small.yaml", "-s", "http://me:p/w@host:9090"),
    typed("a token in the address", "carries a query.", "run", "small.yaml", "-s", "http://host:9090/?token=abc"),
    typed(
        "no credentials file", "the credentials file cannot be read",
        "plan", "small.yaml", "-s", "http://h", "--credentials", "gone",
    ),
    typed(
        "no certificates", "not a file of CA certificates",
        "plan", "small.yaml", "-s", "https://h", "--ca-file", "gone",
    ),
    typed(
        "results in a file", "could not be written (Not a directory).",
        "run", "small.yaml", "--results", "photo.png", code=4,
    ),
    typed("unknown sandbox model", "sdx is not a model of the sandbox.", "sandbox", "--models", "sdx"),
    typed("no sandbox model", "The sandbox needs at least one model.", "sandbox", "--models", ","),
    typed("a template to inspect", "is a built-in workflow, not a file. In an experiment, write workflow: img2img",
          "inspect", "img2img"),
    typed("no workflow to inspect", "graf.json does not exist. Did you mean graph.json?", "inspect", "graf.json"),
    typed("half a sandbox model", "a:b is not a model.", "sandbox", "--models", "a:b"),
    typed("a base it does not paint", "The sandbox paints no sd-9 models.", "sandbox", "--models", "a:sd-9:main"),
    typed("a type it does not know", "maim is not a type of model.", "sandbox", "--models", "a:sd-1:maim"),
    typed(
        "unknown fault", "There is no fault 'eror_503'. Did you mean error_503?",
        "sandbox", "--fault", "eror_503=1",
    ),
    typed("no share", "'error_503' has no share.", "sandbox", "--fault", "error_503"),
    typed("too large a share", "a share must be 0 to 1.", "sandbox", "--fault", "error_503=2"),
]  # fmt: skip


@pytest.mark.timeout(300)
def test_every_slip_is_one_clear_sentence(sweep: Sweep, home: Path) -> None:
    (home / "fake.png").write_text("<html>no image</html>")
    (home / "drawing.svg").write_text("<svg/>")
    (home / "cut.yaml").write_text("name: [")
    (home / "bytes.yaml").write_bytes(b"\xff\xfe\x00name")
    (home / "empty.yaml").write_text("")
    (home / "merge.yaml").write_text("inputs:\n  <<: {steps: 3}\n")
    (home / "tabs.yaml").write_text("inputs:\n\tsteps: 3\n")
    (home / "twice.yaml").write_text("name: a\nname: b\n")
    (home / "graph.json").write_text('{"nodes": {}, "edges": []}')
    (home / "shots.csv").write_text("Text,n,n\nink,1,2\n")
    (home / "results").mkdir()
    (home / "in").mkdir()
    (home / "in" / "photo.png").write_bytes((home / "photo.png").read_bytes())
    for slip in SLIPS:
        write_experiment(home / "wrong.yaml", **slip.changes)
        answer = sweep(*slip.arguments)
        assert slip.says in answer.err, slip.what
        assert "Traceback" not in answer.err, slip.what
        assert (answer.code, answer.out) == (slip.code, ""), slip.what
        assert not list(home.glob("results/*/images")), slip.what


def test_problems_that_every_server_has_are_told_without_advice_to_ask_one(sweep: Sweep, home: Path) -> None:
    for what, changes in {
        "no image": {"inputs": {"prompt": "a"}},
        "one field twice": {"inputs": {**INPUTS, "noise.seed": 3}},
        "one point twice": {"axes": {"steps": [4, 5], "vae": {"values": {"a": {"steps": 4}}}}},
        "equal points": {"axes": {"l": {"values": {"a": {"cfg_scale": 2}, "b": {"cfg_scale": 2}}}}},
    }.items():
        write_experiment(home / "wrong.yaml", **changes)
        for command in ("plan", "run"):
            answer = sweep(command, "wrong.yaml")
            assert answer.code == 2, what
            assert "checked with the sandbox" not in answer.err, (what, answer.err)


def test_a_file_without_nodes_is_told_at_its_name_in_the_experiment(sweep: Sweep, home: Path) -> None:
    (home / "empty.json").write_text('{"nodes": {}}')
    (home / "wrong.yaml").write_text("name: wrong\nworkflow: empty.json\naxes: {seed: [1, 2]}\n")
    for command in ("plan", "run"):
        answer = sweep(command, "wrong.yaml")
        assert answer.code == 2
        assert answer.err.startswith("wrong.yaml: 1 problem\n  2:11  workflow: empty.json is not a workflow;"), command


def test_plan_reports_all_problems_of_a_file_at_once(sweep: Sweep, home: Path) -> None:
    wrong = {"inputs": {**INPUTS, "promt": "x", "steps": "many"}, "axes": {**AXES, "cfg_scale": []}, "axis": 1}
    write_experiment(home / "wrong.yaml", **wrong)
    answer = sweep("plan", "wrong.yaml")
    assert answer.err.startswith("wrong.yaml: 4 problems\n")


def edge(start: tuple[str, str], end: tuple[str, str]) -> dict[str, Any]:
    """From an output to an input, as an API graph has it."""
    ends = {"source": start, "destination": end}
    return {which: {"node_id": node, "field": name} for which, (node, name) in ends.items()}


WORDS = {"a": {"id": "a", "type": "string", "value": "x"}, "b": {"id": "b", "type": "compel"}}
TOLD = (("a", "value"), ("b", "prompt"))
CIRCLE = {name: {"id": name, "type": "add", "a": 1, "b": 1} for name in "ab"}


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ("{", 2, "w.json is not JSON"),
        ("", 2, "w.json is empty."),
        ([], 2, "w.json"),
        ({"nodes": WORDS, "edges": [edge(("a", "value"), ("z", "prompt"))]}, 2, "there is no node 'z'"),
        (
            {
                "nodes": {**WORDS, "c": {"id": "c", "type": "string"}},
                "edges": [edge(*TOLD), edge(("c", "value"), TOLD[1])],
            },
            2,
            "Two edges lead into b.prompt",
        ),
        (
            {"nodes": CIRCLE, "edges": [edge(("a", "value"), ("b", "a")), edge(("b", "value"), ("a", "a"))]},
            2,
            "The nodes feed each other in a circle: a → b → a",
        ),
        (
            {"nodes": {**WORDS, "c": {"id": "c", "type": "my_fancy_node"}}, "edges": [edge(*TOLD)]},
            0,
            "c is of type my_fancy_node, which this server does not have",
        ),
        (
            {"nodes": {**WORDS, "c": {"id": "c", "type": "denoise_latent"}}, "edges": []},
            0,
            "Did you mean denoise_latents?",
        ),
    ],
    ids=["not JSON", "empty", "a list", "edge to nowhere", "two into one", "circle", "custom node", "near node"],
)
def test_inspect_reports_problems_of_a_workflow(content: Any, code: int, says: str, sweep: Sweep, home: Path) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (home / "w.json").write_text(text, encoding="utf-8")
    answer = sweep("inspect", "w.json")
    assert answer.code == code
    assert says in (answer.err if code else answer.out)


def test_plan_lists_the_addresses_of_an_ambiguous_role(sweep: Sweep, home: Path) -> None:
    nodes = {name: {"id": name, "type": "save_image"} for name in ("one", "two")}
    noises = {f"n{name}": {"id": f"n{name}", "type": "noise", "seed": 1} for name in nodes}
    samplers = {f"d{name}": {"id": f"d{name}", "type": "denoise_latents"} for name in nodes}
    decoders = {f"l{name}": {"id": f"l{name}", "type": "l2i"} for name in nodes}
    edges = []
    for name in nodes:
        edges.append(edge((f"n{name}", "noise"), (f"d{name}", "noise")))
        edges.append(edge((f"d{name}", "latents"), (f"l{name}", "latents")))
        edges.append(edge((f"l{name}", "image"), (name, "image")))
    graph = {"nodes": {**nodes, **noises, **samplers, **decoders}, "edges": edges}
    (home / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    shown = sweep("inspect", "w.json")
    assert "seed_1             none.seed\n  seed_2             ntwo.seed\n" in shown.out
    assert "without a number: choose which under roles: in the experiment." in " ".join(shown.out.split())
    write_experiment(home / "wrong.yaml", workflow="w.json", inputs=None, axes={"seed": [1, 2]})
    answer = sweep("plan", "wrong.yaml")
    assert answer.code == 2
    assert "none.seed" in answer.err
    assert "ntwo.seed" in answer.err


def test_run_refuses_an_unknown_server_version(sweep: Sweep, home: Path, unknown_server: str) -> None:
    answer = sweep("run", "small.yaml", "-s", unknown_server)
    assert answer.code == 3
    assert "99.0.0" in answer.err
    assert not (home / "results" / "small" / "images").exists()


def test_an_image_of_the_graph_that_the_server_lacks_is_told_by_inspect_plan_and_run(
    sweep: Sweep, home: Path, named: str
) -> None:
    nodes = {
        "source": {"id": "source", "type": "image", "image": {"image_name": "gone.png"}},
        "resize": {"id": "resize", "type": "img_resize", "width": 64, "height": 64},
    }
    graph = {"nodes": nodes, "edges": [edge(("source", "image"), ("resize", "image"))]}
    (home / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    write_experiment(home / "own.yaml", workflow="w.json", inputs=None, axes={"resize.width": [64, 72]})
    says = "source: the image gone.png is not on the server; set inputs.image to a file"

    inspected = sweep("inspect", "w.json", "-s", named)
    assert says in " ".join(inspected.out.split())
    for command in ("plan", "run"):
        answer = sweep(command, "own.yaml", "-s", named)
        assert (answer.code, answer.err.count(says)) == (2, 1), command
