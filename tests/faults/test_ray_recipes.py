"""The scripts of docs/cluster.md do what they say, with SLURM's commands replaced by their simplest form."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sweep.record import RecordedResults
from tests.support.ports import free_port
from tests.support.ray_cluster import ALONE, ENVIRONMENT, can_separate_processes

BLOCKS = re.findall(
    r"^```\w+\n(.*?)^```",
    (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)
COMMANDS = {
    "sweep": 'exec {python} -m sweep "$@"',
    "ray": 'exec {ray} "$@"',
    "invokeai-web": 'exec {python} -m sweep sandbox --port "$INVOKEAI_PORT"',
    "srun": 'exec "$@"',
    "scontrol": "echo 127.0.0.1",
}


def find_block(text: str) -> str:
    """Find the block of the page that holds a text."""
    (block,) = (block for block in BLOCKS if text in block)
    return str(block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an experiment, and with commands for the shell."""
    (tmp_path / "bin").mkdir()
    words = {"python": shlex.quote(sys.executable), "ray": shlex.quote(str(Path(sys.executable).with_name("ray")))}
    for name, script in COMMANDS.items():
        file = tmp_path / "bin" / name
        file.write_text("#!/bin/bash\n" + script.format(**words) + "\n", encoding="utf-8")
        file.chmod(0o755)
    text = "workflow: txt2img\ninputs: {width: 64, height: 64, steps: 2}\naxes: {seed: {count: 6}}\n"
    (tmp_path / "exp.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def run_script(script: str, folder: Path, *around: str, **environment: str) -> None:
    """Run a script of the page with bash, on ports that are free."""
    script = script.replace("9090", str(free_port())).replace("6379", str(free_port()))
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [*around, "bash", "-c", script],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_slurm_array_renders_parts_that_merge_into_one(folder: Path) -> None:
    script = find_block("#SBATCH --array") + "\nwait; exit 0"
    for task in ("1", "2"):
        run_script(script, folder, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2")
    run_script(find_block("sweep merge shard-*"), folder)
    merged = RecordedResults.open(folder / "results" / "exp")
    assert merged.counts().completed == 6
    assert merged.verify() == []


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.skipif(not can_separate_processes(), reason="symmetric-run stops every cluster of the machine it sees")
def test_slurm_job_starts_a_cluster_with_servers(folder: Path) -> None:
    script = find_block("ray symmetric-run").replace("--min-nodes 8", "--min-nodes 1 --include-dashboard=false")
    run_script(script, folder, *ALONE)
    results = RecordedResults.open(folder / "results" / "exp")
    assert results.counts().completed == 6
    assert (folder / "results" / "exp" / "report.html").is_file()


def test_manifest_is_a_cluster_with_the_server_beside_each_worker() -> None:
    manifest = YAML(typ="safe").load(find_block("kind: RayCluster"))
    (workers,) = manifest["spec"]["workerGroupSpecs"]
    first, second = workers["template"]["spec"]["containers"]
    assert (manifest["apiVersion"], manifest["spec"]["authOptions"]) == ("ray.io/v1", {"mode": "token"})
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert "sweep worker --server" in first["lifecycle"]["postStart"]["exec"]["command"][-1]
    assert second["resources"] == {"limits": {"nvidia.com/gpu": 1}}
