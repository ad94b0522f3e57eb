"""write_report: one file that says what is there, whatever is there, and in which nothing from outside can run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest
from anyio.to_thread import run_sync

from sweep.errors import RecordError
from sweep.report.report_data import read_report_data
from sweep.report.report_writer import (
    build_policy,
    describe_page,
    read_asset,
    summarise_run,
    write_bundle,
    write_report,
)
from sweep.report.thumbnails import build_relative_url
from tests.report.painted import HOSTILE, Plan, paint_folder
from tests.report.parsed_page import opened


async def test_report_embeds_thumbnails_in_the_folder(folder: Path) -> None:
    page = await run_sync(write_report, folder)
    parsed = await run_sync(opened, page)
    told = parsed.data()
    assert page == folder / "report.html"
    assert [axis["name"] for axis in told["axes"]] == ["denoise_strength", "variation", "seed"]
    assert told["thumbs"] == {"mode": "embedded", "prefix": ""}
    assert told["images"]["prefix"] == ""
    inside: dict[str, str] = {}
    for (_, attrs), text in zip(parsed.tags, parsed.texts, strict=True):
        if "data-thumbs" in attrs:
            inside |= json.loads(text)
    assert len(inside) == 13  # twelve images and their source
    assert all(base64.b64decode(thumb)[8:12] == b"WEBP" for thumb in inside.values())


async def test_page_keeps_hostile_text_as_text(folder: Path) -> None:
    parsed = await run_sync(lambda: opened(write_report(folder)))
    images = [attrs for tag, attrs in parsed.tags if tag == "img"]
    assert all(set(attrs) == {"src", "alt", "loading"} for attrs in images)
    assert all((attrs["src"] or "").startswith("data:image/webp;base64,") for attrs in images)
    assert [tag for tag, _ in parsed.tags if tag == "b"] == []
    assert HOSTILE in parsed.data()["axes"][1]["levels"]
    assert any(HOSTILE in text for text in parsed.texts)


async def test_policy_allows_only_own_script_and_stylesheet(folder: Path) -> None:
    parsed = await run_sync(lambda: opened(write_report(folder)))
    allowed = re.findall(r"'(sha256-[^']+)'", build_policy())
    running = [
        text
        for (tag, attrs), text in zip(parsed.tags, parsed.texts, strict=True)
        if tag == "style" or (tag == "script" and ("type" not in attrs or attrs.get("id") == "sweep-charts"))
    ]
    hashes = [f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}" for text in running]
    assert sorted(hashes) == sorted(allowed)
    assert "default-src 'none'" in build_policy()
    assert "unsafe" not in build_policy()


async def test_page_holds_no_absolute_path(folder: Path) -> None:
    page = await run_sync(write_report, folder)
    assert str(folder.parent) not in await run_sync(page.read_text)


async def test_report_puts_many_thumbnails_beside_the_page(folder: Path) -> None:
    parsed = await run_sync(lambda: opened(write_report(folder, embed_up_to=3)))
    told = parsed.data()
    assert told["thumbs"] == {"mode": "files", "prefix": "thumbs/"}
    for identity in told["images"]["thumb"].get("d") or told["images"]["thumb"]["v"]:
        assert await run_sync((folder / "thumbs" / identity[:2] / f"{identity}.webp").is_file)
    assert not any("data-thumbs" in attrs for _, attrs in parsed.tags)


async def test_report_elsewhere_takes_thumbnails_along(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "far" / "away" / "report.html"
    parsed = await run_sync(lambda: opened(write_report(folder, out=out, embed_up_to=3)))
    told = parsed.data()
    assert told["thumbs"]["prefix"] == "report-files/"
    assert told["images"]["prefix"] is None
    assert len(await run_sync(lambda: list(out.parent.glob("report-files/*/*.webp")))) == 13


def test_relative_url_leads_to_the_folder(tmp_path: Path) -> None:
    assert build_relative_url(tmp_path, tmp_path) == ""
    assert build_relative_url(tmp_path, tmp_path / "a b") == "a%20b/"
    assert build_relative_url(tmp_path / "x", tmp_path / "y") == "../y/"
    assert build_relative_url(tmp_path / "x" / "z", tmp_path / "y") is None


async def test_page_names_sandbox_and_failures(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(failed={3: "noise and image sizes differ"}))
    page = await run_sync(lambda: write_report(folder).read_text("utf-8"))
    assert "test images: the sandbox painted them, no model did" in page
    assert "11 of 12 points" in page
    assert "1 failed" in page
    assert "ValueError: noise and image sizes differ" in page


async def test_page_of_a_real_server_has_no_sandbox_banner(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(server="gpu1"))
    assert not (await run_sync(read_report_data, folder)).sandbox


async def test_report_of_all_failed_says_so(tmp_path: Path) -> None:
    plan = Plan(failed=dict.fromkeys(range(12), "CUDA out of memory"), metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan)
    page = await run_sync(lambda: write_report(folder).read_text("utf-8"))
    assert "All images failed." in page
    assert page.count("ValueError: CUDA out of memory") >= 1


async def test_report_has_no_thumbnail_for_missing_or_broken_images(folder: Path) -> None:
    images = sorted(await run_sync(lambda: list((folder / "images").iterdir())))
    await run_sync(images[0].unlink)
    await run_sync(images[1].write_bytes, b"not an image")
    told = await run_sync(lambda: opened(write_report(folder)).data())
    thumbs = told["images"]["thumb"]
    assert (thumbs.get("v") or thumbs["i"]).count(None if "v" in thumbs else -1) == 2


def test_report_of_a_folder_without_results_says_so(tmp_path: Path) -> None:
    page = write_report(tmp_path / "nothing here").read_text("utf-8")
    assert "nothing here" in page
    assert describe_page(read_report_data(tmp_path / "nothing here"))["problem"] != ""


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\x00 and then nothing", b"garbage" * 500])
async def test_report_of_a_broken_journal_says_so(folder: Path, damage: bytes) -> None:
    def break_it() -> str:
        for path in folder.glob("journal.sqlite*"):
            path.unlink()
        (folder / "journal.sqlite").write_bytes(damage)
        return write_report(folder).read_text("utf-8")

    page = await run_sync(break_it)
    problem = (await run_sync(lambda: describe_page(read_report_data(folder))))["problem"]
    assert problem
    assert problem.split(".")[0].split("'")[0][:40] in page


async def test_failed_write_keeps_the_old_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = await run_sync(write_report, folder)
    before = await run_sync(page.read_bytes)
    monkeypatch.setattr("sweep.report.report_writer.render_page", _breaks)
    with pytest.raises(RecordError, match="no space"):
        await run_sync(write_report, folder)
    assert await run_sync(page.read_bytes) == before
    assert await run_sync(lambda: list(folder.glob("*.part"))) == []


def _breaks(*_: object, **__: object) -> None:
    raise OSError("no space left on device")


async def test_headlines_of_the_study_stand_on_top(folder: Path) -> None:
    from sweep.study import make_study

    found = (await run_sync(lambda: make_study(folder, workers=0))).to_json()
    page = await run_sync(lambda: write_report(folder, study=found))
    parsed = await run_sync(opened, page)
    headlines = [word["text"] for word in found["words"] if word["headline"]]
    assert headlines
    assert any(headlines[0] in text for text in parsed.texts)
    told = parsed.data()
    assert [effect["metric"] for effect in told["study"]["effects"]]
    assert {column["name"] for column in told["columns"] if column["kind"] == "metric"} >= {"ssim", "structure_coarse"}


async def test_a_look_at_a_run_does_not_change_its_age(folder: Path) -> None:
    an_hour_ago = datetime.now(UTC).timestamp() - 3600
    await run_sync(os.utime, folder / "journal.sqlite", (an_hour_ago, an_hour_ago))
    await run_sync(read_report_data, folder)
    assert (folder / "journal.sqlite-wal").exists()
    assert (await run_sync(summarise_run, folder))["age"] == "1 h ago"


async def test_page_says_how_long_all_runs_took(folder: Path) -> None:
    data = await run_sync(read_report_data, folder)
    begun = data.runs[-1].begun_at
    runs = [replace(data.runs[-1], begun_at=begun, ended_at=begun + timedelta(seconds=took)) for took in (12.4, 0.01)]
    assert describe_page(replace(data, runs=runs))["took"] == "12 s"  # the second run rendered nothing
    runs[1] = replace(runs[1], ended_at=None)
    assert describe_page(replace(data, runs=runs))["took"] == ""


def test_command_loses_folders_of_this_machine() -> None:
    from sweep.report.report_data import remove_paths

    assert remove_paths("sweep run /home/me/cups.yaml --results '/data/my results'") == (
        "sweep run cups.yaml --results 'my results'"
    )
    assert remove_paths("sweep run experiments/cups.yaml") == "sweep run experiments/cups.yaml"
    assert remove_paths("it's broken") == "'it'\"'\"'s' broken"


@pytest.mark.parametrize("name", ["explorer.js", "charts.js", "explorer.css"])
def test_built_files_can_stand_inside_the_page(name: str) -> None:
    assert not re.search(r"</(script|style)|<!--|registry\.", read_asset(name))


async def test_embedded_originals_are_inside_the_page(folder: Path, tmp_path: Path) -> None:
    page = await run_sync(lambda: write_report(folder, out=tmp_path / "mail" / "cups.html", originals=True))
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 13  # twelve images and their source
    assert str(folder) not in text
    assert opened(page).data()["originals"] == "inside"


async def test_bundle_holds_the_page_and_its_images(folder: Path, tmp_path: Path) -> None:
    made = await run_sync(write_bundle, folder, tmp_path / "cups.zip")
    with ZipFile(made) as bundle:
        names = bundle.namelist()
    assert names[0] == "report.html"
    assert sum(name.startswith("images/") for name in names) == 12


async def test_bundle_holds_every_file_of_equal_images_and_every_thumbnail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(axes={"variation": ["plain"], "denoise_strength": [0, 0.5], "seed": [42]}, metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan)
    monkeypatch.setattr("sweep.report.report_writer.EMBED_UP_TO", 0)

    made = await run_sync(write_bundle, folder, tmp_path / "cups.zip")

    assert len((await run_sync(read_report_data, folder)).files.images) == 1
    with ZipFile(made) as bundle:
        names = bundle.namelist()
    assert sum(name.startswith("images/") for name in names) == 2
    assert sum(name.startswith("thumbs/") for name in names) == 2  # of the image, and of its source


async def test_page_elsewhere_says_that_it_has_only_previews(folder: Path, tmp_path: Path) -> None:
    for embed_up_to in (0, 100):
        write = partial(write_report, folder, out=tmp_path / "a" / "b" / "page.html", embed_up_to=embed_up_to)
        page = await run_sync(write)
        assert '<span class="previews">' in page.read_text("utf-8"), embed_up_to
    assert '<span class="previews">' not in (await run_sync(write_report, folder)).read_text("utf-8")


def test_a_run_killed_before_its_first_record_has_the_age_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").touch()
    an_hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(tmp_path / "journal.sqlite", (an_hour_ago, an_hour_ago))
    assert summarise_run(tmp_path)["age"] == "1 h ago"


async def test_an_axis_may_be_called_like_a_column_of_ratings(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(axes={"note": ["loud", "soft"], "status": ["a", "b"]}))

    axes = (await run_sync(read_report_data, folder)).axes

    assert [(axis.name, axis.column) for axis in axes] == [("note", "note"), ("status", "axis_status")]


def test_a_run_that_is_deleted_meanwhile_has_a_row_that_says_so(tmp_path: Path) -> None:
    assert summarise_run(tmp_path / "gone")["state"] == "cannot be read"


async def test_page_names_the_folder_in_commands_and_tells_cancelled_images_from_failed_ones(folder: Path) -> None:
    data = await run_sync(read_report_data, folder)
    told = describe_page(replace(data, frame=data.frame.assign(status="cancelled")))
    assert told["problem"].startswith("No image was rendered. ")
    assert told["commands"][-1] == "sweep report 'my cups'"
    design = {
        "balanced": False,
        "missing": 0,
        "cells": 9,
        "reference": "source",
        "seed_axis": None,
        "seeds_shared": False,
    }
    design["seeds_shared"] = False
    assert describe_page(data, {"design": design})["study_design"][0] == ("balanced", "no: some cells have more images")


async def test_the_list_of_runs_shows_levels_in_their_order(tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(axes={"variation": ["z", "a", "m"]}, metrics=False))
    shas = list((await run_sync(read_report_data, folder)).frame["sha256"])
    assert (await run_sync(summarise_run, folder))["images"] == [sha[:16] for sha in shas]
