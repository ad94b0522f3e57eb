"""Slips in the commands for the first hour and for pipelines: each is answered with the way out, and changes nothing.

All run in this process, on one finished run.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Sweep

TYPED = ("img2img", "--image", "photo.png", "--axis", "seed=1,2")
CHECK = ("check", "small", "--require")
SLIPS: list[tuple[tuple[str, ...], str]] = [
    # run and plan without a file
    (("plan", "small.yaml", "--axis", "seed=1,2"), "Change its values with --set, as in --set axes.seed=[1,2]."),
    (("run", *TYPED, "--save", "there.yaml"), "there.yaml exists already. Choose another --save, or run that file."),
    (("plan", "img2img", "--axis", "seed"), "--axis seed has no values."),
    (
        ("plan", "img2img", "--axis", "sed=1,2", "--image", "photo.png"),
        "command line: 1 problem axes.sed is neither an input",
    ),
    (("plan", "img2img", "--axis", "seed=1,2", "--image", "phot.png"), "Did you mean photo.png?"),
    (
        ("plan", "img2img", "--axis", "seed=1,2", "--image", "small.png"),
        "does not exist; write the path of your image",
    ),
    (("plan", "img2img", "--axis", "seed=1,2"), "--image FILE"),
    (("plan", *TYPED, "--axis", "variation=@gone.txt"), "gone.txt"),
    (("plan", *TYPED, "--input", "steps"), "--input steps has no value. Write --input NAME=VALUE."),
    (("plan", *TYPED, "--input", "stps=3"), "Did you mean steps?"),
    (("plan", *TYPED, "--axis", "seed=3"), "--axis seed is given twice."),
    (("plan", *TYPED, "--axis", "denoise_strength=0.2:0.8:0"), "step"),
    (("plan", *TYPED, "--axis", "denoise_strength=0.5,1.5"), "must be 0 to 1"),
    (
        ("plan", *TYPED, "--axis", "model=foo"),
        "command line: 1 problem axes.model.0: the server has no model named foo.",
    ),
    (("plan", "img2im", "--axis", "seed=1,2"), "Did you mean img2img?"),
    (("run", "gone.json", "--axis", "seed=1,2"), "gone.json does not exist"),
    (("plan", "photo.png"), "sweep run img2img --image photo.png renders variations of it."),
    (("run", "photo.jpg"), "photo.jpg is an image, not an experiment. sweep run img2img --image photo.jpg renders"),
    (("run", "small"), "small is a run. To continue it: sweep run results/small/experiment.yaml"),
    (("plan", "results/small"), "results/small is a run. To continue it: sweep run results/small/experiment.yaml"),
    (("run", "small", "--results", "results/../results"), "small/experiment.yaml --results results/../results"),
    (("run", "photo.png", "--axis", "seed=1,2"), "give a built-in workflow: sweep run img2img --image photo.png."),
    # init
    (("init", "there.yaml"), "If it is an experiment, sweep plan there.yaml shows what it would do."),
    (("init", "flow.json", "-o", "there.yaml"), "there.yaml exists already. Choose another --output."),
    (("init", "img2img"), "There is no terminal to ask in. Name a workflow file, or use"),
    (
        ("init",),
        "Name a workflow file, or use sweep run img2img --image FILE --prompt TEXT --axis NAME=VALUES --save FILE.",
    ),
    (("init", "flo.json"), "Did you mean flow.json?"),
    # redo, rename, rm
    (("redo", "small"), 'redo needs --where. For example --where "index in [3, 5]", or "index >= 0" for all.'),
    (("redo", "small", "--where", "seed ="), "write == to compare, not ="),
    (("redo", "small", "--where", "sed == 42"), "there is no column named sed. Did you mean seed?"),
    (("redo", "smal", "--where", "index == 1"), "There is no results folder smal. Did you mean small?"),
    (("redo", "small", "--where", "index == 99"), "No point of small meets index == 99. sweep table results/small"),
    (("rm", "small"), "Add --yes to delete without asking."),
    (("rm", "small", "--where", "seed == 42"), "Add --yes to delete without asking."),
    (("rm", "small", "--where", "seed == 1", "--yes"), "No point of small meets seed == 1."),
    (("rm", "smal", "--yes"), "Did you mean small?"),
    (("rename", "small", "other"), "exists already."),
    (("rename", "small", "a/b"), "is no folder name on some systems"),
    (("rename", "small", "con"), "is no folder name on some systems"),
    (("rename", "small"), "sweep rename needs NEW."),
    # check
    (("check", "small"), 'There is nothing to check. Add --require "failed == 0".'),
    ((*CHECK, "sim >= 0.9"), "there is no column named sim. Did you mean ssim?"),
    ((*CHECK, "ssim = 0.9"), "write == to compare, not ="),
    ((*CHECK, "ssim >= 0.9 where"), 'ends before its condition. Write "… where seed == 1".'),
    ((*CHECK, "ssim >= 0.9 where sed == 1"), "Did you mean seed?"),
    ((*CHECK, "faild == 0"), "there is no column named faild. Did you mean failed?"),
    ((*CHECK, "1 == 1"), "names no column"),
    ((*CHECK, 'ssim >= "high"'), "ssim is a number, but 'high' is text"),
    # rate, merge, table
    (("rate", "small", "gone.json"), "There is no file gone.json."),
    (("rate", "small", "flow.json"), "flow.json is not a file of ratings. Export one from the page (Share)."),
    (("merge", "results/small"), "sweep merge needs --output."),
    (("merge", "results/smal", "-o", "merged"), "results/smal"),
    (("merge", "results/small", "-o", "results/small"), "results/small"),
    (("table", "small", "--columns", "sed"), "There is no column named sed. Did you mean seed?"),
    (("table", "small", "--columns", "sed,"), "There is no column named sed. Did you mean seed?"),
    (("table", "small", "--columns", ""), "--columns names no column. Write --columns seed,status."),
    # the agents of a cluster
    (("worker",), "Use either --server or --stop."),
    (("workers", "--on", "rai"), "ray"),
]


def test_slips_in_new_commands_name_the_way_out(sweep: Sweep, done: Path, home: Path) -> None:
    (done.parent / "other").mkdir()
    (home / "there.yaml").write_text("name: there\n", encoding="utf-8")
    (home / "flow.json").write_text(json.dumps({"nodes": {}, "edges": []}), encoding="utf-8")
    (home / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    before = sweep("table", "small").out
    files = sorted(home.rglob("*.yaml"))
    wrong = []
    for arguments, says in SLIPS:
        answer = sweep(*arguments)
        said = " ".join(answer.err.split())
        if answer.code not in (2, 4) or says not in said or answer.out or "Traceback" in said:
            wrong.append((" ".join(arguments), answer.code, said))
    assert not wrong
    assert len(SLIPS) >= 40
    assert sweep("table", "small").out == before
    assert sorted(home.rglob("*.yaml")) == files


def test_suggested_commands_quote_names_with_spaces(sweep: Sweep, done: Path, home: Path) -> None:
    done.rename(done.with_name("my run"))
    (home / "small.yaml").rename(home / "my file.yaml")
    (home / "photo.png").rename(home / "my photo.png")
    for arguments, command in (
        (("stop", "my run"), "sweep status 'results/my run' shows"),
        (("redo", "my run", "--where", "index == 99"), "sweep table 'results/my run' lists"),
        (("inspect", "my file.yaml"), "sweep plan 'my file.yaml' shows"),
        (("plan", "my photo.png"), "sweep init 'my photo.png' writes"),
        (("run", "my photo.png", "--axis", "seed=1,2"), "sweep run img2img --image 'my photo.png'."),
        (("my file.yaml", "--set", "inputs.steps=3"), "sweep run 'my file.yaml' --set inputs.steps=3"),
    ):
        answer = sweep(*arguments)
        assert answer.code == 2
        assert command in " ".join(answer.err.split())


def test_a_file_or_template_without_a_command_is_answered_with_run(sweep: Sweep, home: Path) -> None:
    assert "Did you mean sweep run img2img?" in sweep("img2img").err
    assert "Did you mean sweep run small.yaml?" in sweep("small.yaml").err
    assert "Did you mean" not in sweep("gone.yaml").err
    assert "Did you mean run?" in sweep("rnu", "small.yaml").err


def test_a_folder_without_results_is_told_from_a_run_that_does_not_exist(sweep: Sweep, done: Path, home: Path) -> None:
    (home / "empty").mkdir()
    (done.parent / "begun").mkdir()
    said = "empty holds no results: it has no journal.sqlite. Results folders: results/small."
    assert said in " ".join(sweep("report", "empty").err.split())
    assert "begun holds no results" in sweep("status", "begun").err
    for command in ("status", "report", "table", "study"):
        answer = sweep(command, "results/gone")
        assert answer.code == 2
        assert answer.err == "There is no results folder results/gone.\nResults folders: results/small.\n"


def test_sheet_and_compare_say_of_a_damaged_run_what_table_says(sweep: Sweep, done: Path) -> None:
    (done / "journal.sqlite").write_bytes(b"garbage")
    table = sweep("table", "small")
    assert table.code == 4
    assert "is damaged" in table.err
    assert sweep("sheet", "small") == sweep("compare", "small", "small") == table


def test_errors_of_the_parser_are_plain_sentences(sweep: Sweep, done: Path) -> None:
    for arguments, says in (
        (
            ("run", "small.yaml", "--concurrency", "0"),
            'not "0". For example: --concurrency 2 See sweep run --help.',
        ),
        (("view", "small", "--port", "99999"), '--port must be 65535 or less, not "99999".'),
        (("sheet", "small", "--size", "big"), '--size must be a whole number, not "big". For example: --size 256'),
        (("sandbox", "--latency", "slow"), '--latency must be a number, not "slow".'),
        (
            ("run", "small.yaml", "other.yaml"),
            'sweep run does not take "other.yaml": leave it out. (Put a text that contains spaces in quotes.)',
        ),
        (
            ("report", "small", "other"),
            "(Put a text that contains spaces in quotes.) To compare two results folders, use sweep compare. See sweep",
        ),
        (("run", "small.yaml", "--set"), "--set needs a value. See sweep run --help."),
        (("table", "small", "--format", "exel"), "'md'. Did you mean excel?"),
        (("--server", "gpu", "run", "small.yaml"), "Write options after the command: sweep run --server …"),
        (("view", "small", "--host", "192.0.2.1"), "Choose another --host."),
        (("view", "small", "--host", "no.such.host.invalid"), "cannot be used (no such host). Choose another --host."),
    ):
        answer = sweep(*arguments)
        assert answer.code == 2
        assert says in " ".join(answer.err.split())
