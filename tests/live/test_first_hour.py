"""The first hour of two people on real servers: the tutorial's three commands, and an artist with own files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.support.live_comfyui import serving_comfyui
from tests.support.workflow_exports import comfyui_image_to_image, image_to_image

ROOT = Path(__file__).parents[2]
TURNED = 6  # EXIF: the phone was held upright, so the image is turned by 90 degrees


def take_photo(file: Path) -> Path:
    """A photograph as a phone saves it: lying on its side, dark on top once it stands upright."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = TURNED, "Phone"
    upright = Image.linear_gradient("L").resize((64, 96)).convert("RGB")
    upright.rotate(90, expand=True).save(file, exif=exif.tobytes())
    return file


def tutorial_commands() -> list[str]:
    """The first three commands of the tutorial."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"^\$ (.+)$", page, re.MULTILINE)[:3]


@pytest.mark.timeout(900, func_only=True)  # installs sweep with all it needs
def test_three_commands_lead_from_a_clone_to_an_own_study(live_server: str, tmp_path: Path) -> None:
    """As typed in a shell, in a clone; the photo, its size, the address and the model are one's own."""
    subprocess.run(["git", "clone", "-q", str(ROOT), "a clone"], cwd=tmp_path, check=True)
    clone = tmp_path / "a clone"
    photo = take_photo(tmp_path / "IMG_2043.jpg")
    lines = tutorial_commands()
    lines[2] = lines[2].replace("experiments/images/coffee.png", shlex.quote(str(photo)))
    lines[2] = lines[2].replace("http://gpu1:9090", live_server) + " --input model=tiny-sd --input steps=3"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "12 of 12 rendered in " in done.stdout
    results = RecordedResults.open(clone / "results" / "cup")
    rows = list(results.rows())
    assert {(row["status"], row["width"], row["height"]) for row in rows} == {("completed", 64, 96)}
    assert len({row["sha256"] for row in rows}) == 12
    assert (clone / "results" / "cup" / "report.html").is_file()


def walk(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """One command of the artist, and what the terminal says."""
    capsys.readouterr()
    found = app.run_cli(shlex.split(words))
    said = capsys.readouterr()
    assert found == code, (words, said)
    return said.out + said.err


def check_artist_path(
    server: str, export: dict[str, Any], other: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export, photo, init, plan, run, mail; each refusal on the way names the line to write."""
    (folder / "portrait.json").write_text(json.dumps(export), encoding="utf-8")
    take_photo(folder / "IMG_2043.jpg")

    said = walk(f"init portrait.json -o first.yaml -s {server}", capsys)
    lines = (folder / "first.yaml").read_text(encoding="utf-8").splitlines()
    assert "Wrote first.yaml." in said
    if "Write the path of your own image in line" in said:
        (number,) = re.findall(r"in line (\d+)", said)
        assert lines[int(number) - 1].strip().startswith("image:")
        refused = walk(f"plan first.yaml -s {server}", capsys, 2)
        assert f"{number}:" in refused
        assert "does not exist; write the path of your image" in refused

    walk(f"init portrait.json --image IMG_2043.jpg -s {server}", capsys)
    assert other in walk("plan experiment.yaml --set inputs.model=gone -s " + server, capsys, 2)
    planned = walk(f"plan experiment.yaml -s {server} --set axes.seed=[1,2]", capsys)
    assert "IMG_2043.jpg  64×96" in planned  # upright
    assert "8 = 4 × 2" in planned

    ended = walk(f"run experiment.yaml -s {server} --set axes.seed=[1,2]", capsys)
    assert "8 of 8 rendered in " in ended
    (run,) = (folder / "results").iterdir()
    strong = next(row for row in RecordedResults.open(run).rows() if row["denoise_strength"] == 0.2)
    with Image.open(run / str(strong["image_path"])) as image:
        grey = image.convert("L")
        top, bottom = grey.crop((0, 0, 64, 16)), grey.crop((0, 48, 64, 64))
        assert sum(top.tobytes()) < sum(bottom.tobytes()), "the photo reached the server on its side"

    walk(f"verify {run.name}", capsys)  # the photo is kept upright, so its bytes are not those of the file
    walk(f"report {run.name} --embed -o mail.html", capsys)
    page = (folder / "mail.html").read_text(encoding="utf-8")
    assert str(folder) not in page
    assert 'src="http' not in page
    assert (folder / "mail.html").stat().st_size < 10_000_000  # what mail servers take


@pytest.mark.timeout(600, func_only=True)
def test_artist_path_on_invokeai(
    live_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    check_artist_path(live_server, image_to_image(), "tiny-sd", tmp_path, capsys)


@pytest.mark.timeout(600, func_only=True)
def test_artist_path_on_comfyui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving_comfyui(tmp_path / "comfyui") as server:
        check_artist_path(server.url, comfyui_image_to_image(), "tiny-sd", tmp_path, capsys)
