"""A run over a Ray cluster loses nothing and renders nothing twice, whatever is killed.

Real Ray processes over loopback; what was rendered is counted by the servers.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import Bench, SandboxProcess
from tests.support.ray_cluster import ALONE, ENVIRONMENT, RayCluster, can_separate_processes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
AGENTS = 4
POINTS = 240
KEEP_ITEMS = (
    "--takeover-after",
    "3600",
)  # an agent that takes long to come back keeps its items: none is rendered twice
PASSWORD = "canary-password-77c2e9"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    found = RayCluster(folder)
    found.start()
    try:
        yield found
    finally:
        found.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def servers(bench: Bench) -> Iterator[list[SandboxProcess]]:
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 1, "count": POINTS // 3}}
    found = [bench.sandbox(f"server-{number}", latency=0.05) for number in range(AGENTS)]
    yield found
    for server in found:
        server.kill()


def run_all(bench: Bench, cluster: RayCluster, *commands: tuple[str, ...]) -> None:
    """Run commands of the cluster side by side; all succeed."""
    on = ["--on", f"ray:{cluster.address}"]
    running = [bench.command(*command, *on, **ENVIRONMENT) for command in commands]
    for pid, output in running:
        assert bench.zygote.wait(pid)[0] == 0, output.read_text(encoding="utf-8")


def register(bench: Bench, cluster: RayCluster, servers: list[SandboxProcess]) -> None:
    """Register an agent beside each server."""
    named = enumerate(servers)
    run_all(bench, cluster, *(("worker", "--server", each.url, "--name", f"gpu{number}") for number, each in named))


def begin(bench: Bench, cluster: RayCluster) -> tuple[int, Path]:
    """Start the coordinator; its pid, and the file that takes its output."""
    options = ["--on", f"ray:{cluster.address}", "--no-report", "--progress", "json", *KEEP_ITEMS]
    return bench.command("run", str(bench.write()), *options, **ENVIRONMENT)


@contextmanager
def hold_items(server: SandboxProcess) -> Iterator[None]:
    """Have a server render nothing meanwhile: it keeps its items, so a run cannot end before it is killed."""
    server.ask("/api/v1/queue/default/processor/pause", "PUT")
    yield
    server.ask("/api/v1/queue/default/processor/resume", "PUT")


def wait_until(ready: Callable[[], bool]) -> None:
    """Wait until something is so; the test's own limit ends it where it never is."""
    while not ready():
        time.sleep(0.05)


def wait_until_said(output: Path, text: str) -> None:
    """Wait until a command has printed a text."""
    wait_until(lambda: text in output.read_text(encoding="utf-8"))


def rendered(servers: list[SandboxProcess]) -> Counter[str]:
    """Count the renders of each key over all servers."""
    return sum((Counter(server.renders()) for server in servers), Counter[str]())


def check_whole(bench: Bench, servers: list[SandboxProcess]) -> None:
    """Check that every point is completed, and none rendered twice but what a killed server had in progress."""
    assert bench.statuses() == {"completed": POINTS}
    assert bench.results.verify() == []
    counts = rendered(servers)
    excused = sum((server.cut_short for server in servers), Counter[str]())
    assert len(counts) == POINTS
    assert not {key: count for key, count in counts.items() if count > 1 + excused[key]}


def test_no_secret_of_a_server_leaves_the_agents_host(bench: Bench, cluster: RayCluster) -> None:
    server = bench.sandbox(users={"me@example.org": PASSWORD})
    file = bench.folder / "credentials.toml"
    file.write_text(f'email = "me@example.org"\npassword = "{PASSWORD}"\n', encoding="utf-8")
    file.chmod(0o600)
    on = ["--on", f"ray:{cluster.address}"]
    printed = [
        bench.sweep(
            "worker", "--server", server.url, "--name", "locked", "--credentials", str(file), *on, **ENVIRONMENT
        ),
        bench.sweep("workers", *on, **ENVIRONMENT),
        bench.sweep("run", str(bench.write()), *on, "--no-report", "--progress", "json", **ENVIRONMENT),
        bench.sweep("worker", "--stop", "locked", *on, **ENVIRONMENT),
    ]
    assert [code for code, _ in printed] == [0] * 4, printed
    assert bench.statuses() == {"completed": 6}
    assert not [said for _, said in printed if PASSWORD in said]
    places = [*(bench.folder / "results").rglob("*"), *cluster.folder.rglob("*")]
    told = [place for place in places if place.is_file() and PASSWORD.encode() in place.read_bytes()]
    assert told == []
    server.kill()


def test_killed_agent_server_coordinator_and_cluster(
    bench: Bench, cluster: RayCluster, servers: list[SandboxProcess]
) -> None:
    register(bench, cluster, servers)
    code, said = bench.sweep("workers", "--on", f"ray:{cluster.address}", **ENVIRONMENT)
    assert (code, said.count("ready")) == (0, AGENTS), said
    code, said = bench.sweep("workers", "--json", "--on", f"ray:{cluster.address}", **ENVIRONMENT)
    answer = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert [each["state"] for each in answer["workers"]] == ["ready"] * AGENTS
    code, said = bench.sweep("workers", "--quiet", "--on", f"ray:{cluster.address}", **ENVIRONMENT)
    assert (code, said.count("ready")) == (0, 0), said

    with hold_items(servers[-1]):
        run, _ = begin(bench, cluster)
        wait_until(lambda: sum(rendered(servers).values()) > 40)
        agents = cluster.processes("ray::Agent")
        os.kill(agents[0], signal.SIGKILL)  # comes back by itself
        wait_until(lambda: sum(rendered(servers).values()) > 80)
        bench.zygote.signal(run, signal.SIGKILL)
        assert bench.zygote.wait(run)[0] == -signal.SIGKILL
    cluster.kill()
    cluster.start()
    register(bench, cluster, servers)

    run, output = begin(bench, cluster)
    wait_until(lambda: sum(rendered(servers).values()) > 150)
    servers[0].kill()
    servers[0].start()
    assert bench.zygote.wait(run)[0] == 0, output.read_text(encoding="utf-8")[-3000:]
    check_whole(bench, servers)
    stop_agents(bench, cluster, AGENTS)


def test_run_that_waits_goes_on_when_its_cluster_was_started_anew(
    bench: Bench, cluster: RayCluster, servers: list[SandboxProcess]
) -> None:
    """To Ray, a head that was started again is another cluster, which the run has to join."""
    servers = servers[:2]
    register(bench, cluster, servers)
    with hold_items(servers[0]):
        run, output = begin(bench, cluster)
        wait_until(lambda: sum(rendered(servers).values()) > 20)
        cluster.kill()
        wait_until(lambda: output.read_text(encoding="utf-8").count('"left"') == len(servers))
    cluster.start()
    register(bench, cluster, servers)
    assert bench.zygote.wait(run)[0] == 0, output.read_text(encoding="utf-8")[-3000:]
    check_whole(bench, servers)
    stop_agents(bench, cluster, len(servers))


def test_killed_while_agents_write_the_images_and_the_cluster_measures_them(
    bench: Bench, cluster: RayCluster, servers: list[SandboxProcess]
) -> None:
    bench.definition["axes"] = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 1, "count": 20}}
    servers = servers[:2]
    register(bench, cluster, servers)
    options = ["--on", f"ray:{cluster.address}", "--images", "shared", "--progress", "json", *KEEP_ITEMS]

    with hold_items(servers[0]):
        run, _ = bench.command("run", str(bench.write()), *options, **ENVIRONMENT)
        wait_until(lambda: sum(rendered(servers).values()) > 10)
        os.kill(cluster.processes("ray::Agent")[0], signal.SIGKILL)
        wait_until(lambda: sum(rendered(servers).values()) > 30)
        bench.zygote.signal(run, signal.SIGKILL)
        assert bench.zygote.wait(run)[0] == -signal.SIGKILL
    code, said = bench.sweep("run", str(bench.write()), *options, **ENVIRONMENT)
    assert code == 0, said

    assert bench.statuses() == {"completed": 60}
    assert bench.results.verify() == []
    counts = rendered(servers)
    assert (len(counts), max(counts.values())) == (60, 1), counts.most_common(3)
    assert bench.results.table()["ssim"].notna().all()  # the values that the run put into the journal
    stop_agents(bench, cluster, len(servers))


def stop_agents(bench: Bench, cluster: RayCluster, count: int) -> None:
    """End the agents that `register` started."""
    run_all(bench, cluster, *(("worker", "--stop", f"gpu{number}") for number in range(count)))


def run_with_servers(bench: Bench, cluster: RayCluster) -> tuple[int, Path]:
    """Start a run that starts a sandbox on each node."""
    command = shlex.join([sys.executable, "-m", "sweep", "sandbox", "--port", "{port}"])
    options = ["--on", f"ray:{cluster.address}", "--no-report", "--progress", "json", "--with", command]
    return bench.command("run", str(bench.write()), *options, **ENVIRONMENT)


def test_with_starts_a_server_on_each_node_and_leaves_none_behind(bench: Bench, cluster: RayCluster) -> None:
    cluster.add_node()
    before = set(cluster.processes("ray::Agent"))
    pid, output = run_with_servers(bench, cluster)
    assert bench.zygote.wait(pid)[0] == 0, output.read_text(encoding="utf-8")[-3000:]
    assert bench.statuses() == {"completed": 6}
    assert len(bench.results.runs()[-1].facts.servers) == 2
    wait_until(lambda: not cluster.processes("sweep sandbox --port"))

    for number in (signal.SIGINT, signal.SIGKILL):
        bench.definition["axes"] = {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": number * 1000, "count": 200}}
        pid, output = run_with_servers(bench, cluster)
        wait_until_said(output, '"Completed"')
        bench.zygote.signal(pid, number)
        assert bench.zygote.wait(pid)[0] == (130 if number == signal.SIGINT else -number)
        wait_until(lambda: not cluster.processes("sweep sandbox --port"))
        wait_until(lambda: before.issuperset(cluster.processes("ray::Agent")))


@pytest.mark.skipif(not can_separate_processes(), reason="ray stop ends every cluster of the machine it sees")
def test_ray_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("workflow: txt2img\naxes: {seed: {start: 1, count: 500}}\n", encoding="utf-8")
    done = subprocess.run(
        [*ALONE, "sh", "-c", shlex.join([sys.executable, "-m", "tests.support.ray_stop", str(file)]) + "; exit $?"],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["nothing is left"], done.stdout + done.stderr
