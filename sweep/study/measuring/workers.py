"""Worker processes that measure on all cores at low priority, with bounded memory, and outlive their crashes.

Run as a program, this module is a worker: it reads tasks from standard input and answers them. Processes of our own
rather than `multiprocessing`, because that imports the caller's main module again: a notebook, or a script without a
main guard, would break. They end when their input ends, so they never outlive their parent. Modules that take long to
import are imported in functions, so that a run that starts a follower pays nothing.

On a Ray cluster its tasks hold such a process each, so that numbers are those of one machine, bit for bit.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, cast

from sweep.errors import SweepError, UsageError
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.study.measuring.task import MeasuredImage, References, Task
    from sweep.study.metrics.base import Metric


TaskAnswer: TypeAlias = "tuple[Task, list[MeasuredImage]]"
OnRay: TypeAlias = Literal["ray"]
TASK_TRIES = 2  # a task whose worker dies twice is given up: it is the image, not the worker
WAITING = 4  # tasks per worker that are drawn ahead: memory stays bounded
LOST: Final = "the process that measured it died, twice"
_LOOK_SECONDS = 1.0  # between looks at how many CPUs the cluster has


def measure_all(tasks: Iterable[Task], metrics: Sequence[Metric], *, workers: int | OnRay) -> Generator[TaskAnswer]:
    """Yield answers as they come, in any order. `workers` processes; 0: in this one; "ray": on all CPUs of the cluster
    that this process has joined. Tasks are drawn only a few ahead. Closing the generator ends the workers.

    Raises UsageError where a metric cannot be sent to another process.
    """
    if workers == "ray":
        return _measure_on_ray(tasks, metrics)
    return _measure_in_workers(tasks, metrics, workers) if workers else _measure_here(tasks, metrics)


def _measure_here(tasks: Iterable[Task], metrics: Sequence[Metric]) -> Generator[TaskAnswer]:
    from sweep.study.measuring.task import measure_task

    references: References = OrderedDict()
    for task in tasks:
        yield task, measure_task(task, metrics, references)


def _measure_in_workers(tasks: Iterable[Task], metrics: Sequence[Metric], workers: int) -> Generator[TaskAnswer]:
    """Measure in as many threads as processes; each task takes an idle worker."""
    source, sent = iter(tasks), _pickle_metrics(metrics)
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for _ in range(workers):
        idle.put(_Worker(sent))

    def measure(task: Task) -> list[MeasuredImage]:
        worker = idle.get()
        try:
            return worker.measure(task)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(workers)
    running: dict[Future[list[MeasuredImage]], Task] = {}
    try:
        while True:
            for task in islice(source, workers * WAITING - len(running)):
                running[threads.submit(measure, task)] = task
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()
    finally:
        threads.shutdown(cancel_futures=True)
        while not idle.empty():
            idle.get().close()


def _pickle_metrics(metrics: Sequence[Metric]) -> bytes:
    try:
        return pickle.dumps(tuple(metrics))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"A metric cannot be sent to worker processes ({error}).", hint="Define it in a module."
        ) from error


def _give_up(task: Task) -> list[MeasuredImage]:
    from sweep.study.measuring.task import MeasuredImage

    return [MeasuredImage((float("nan"),) * len(task.metrics), LOST)] * len(task.images)


class _Worker:
    """A worker process, started at the first task and again after it died."""

    def __init__(self, metrics: bytes) -> None:
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None

    def measure(self, task: Task) -> list[MeasuredImage]:
        for _ in range(TASK_TRIES):
            try:
                if self._process is None:
                    self._process = start_process("workers")
                    if (refusal := self._ask(self._metrics)) is not None:
                        raise UsageError(f"{refusal[:1].upper()}{refusal[1:]}.")
                answer: list[MeasuredImage] = self._ask(task)
            except (EOFError, OSError, pickle.UnpicklingError):
                self.close()
            else:
                return answer
        return _give_up(task)

    def _ask(self, message: object) -> Any:
        process = cast("subprocess.Popen[bytes]", self._process)
        send(cast("BinaryIO", process.stdin), message)
        return pickle.load(cast("BinaryIO", process.stdout))  # noqa: S301  our own process

    def close(self) -> None:
        """Kill the process, which keeps nothing of its own. Do nothing where it never ran."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError), process:  # what was still to be written is of no use to a killed process
                process.kill()


def _measure_on_ray(tasks: Iterable[Task], metrics: Sequence[Metric]) -> Generator[TaskAnswer]:
    """Send tasks with their images, so many that no CPU waits for the next one.

    Raises UsageError where a host has other versions, SweepError where the cluster fails.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=TASK_TRIES - 1)(measure_sent)
    source, sent = iter(tasks), ray.put(_pickle_metrics(metrics))
    running: dict[Any, Task] = {}
    try:
        while True:
            cpus = int(ray.cluster_resources().get("CPU", 0))
            for task in islice(source, max(cpus * WAITING - len(running), 0)):
                running[remote.remote(_send_images(task), sent, find_versions())] = task
            if not running:
                if next(source, None) is not None:
                    raise SweepError("The cluster has no CPUs to measure with.", hint="Leave out --on to measure here.")
                return
            for done in ray.wait(list(running), timeout=_LOOK_SECONDS)[0]:
                task = running.pop(done)
                yield task, _take_answer(task, done)
    except ray.exceptions.RayError as error:
        raise SweepError(
            f"The cluster failed while it measured ({type(error).__name__}).",
            hint="What was measured is kept. Run sweep study again, with --on or without.",
        ) from error
    finally:
        for each in running:
            with suppress(ray.exceptions.RayError):
                ray.cancel(each)


def _take_answer(task: Task, done: Any) -> list[MeasuredImage]:
    import ray

    try:
        answer: list[MeasuredImage] | str = ray.get(done)
    except ray.exceptions.WorkerCrashedError:
        return _give_up(task)
    if isinstance(answer, str):
        raise UsageError(answer)
    return answer


def _send_images(task: Task) -> Task:
    """Put the files into the task; one that cannot be read stays a path, which the other host cannot read either."""
    from sweep.study.metrics.base import SentImage

    def send_image(path: Path | SentImage) -> Path | SentImage:
        try:
            return SentImage(path.name, path.read_bytes()) if isinstance(path, Path) else path
        except OSError:
            return path

    reference = None if task.reference is None else send_image(task.reference)
    return replace(task, images=tuple(map(send_image, task.images)), reference=reference)


def measure_sent(task: Task, metrics: bytes, versions: Mapping[str, str]) -> list[MeasuredImage] | str:
    """Measure on a host of the cluster, by a process of the same kind as on one machine; or say why it cannot."""
    own = find_versions()
    if differing := [name for name in versions if own[name] != versions[name]]:
        here, there = ([f"{name} {these[name]}" for name in differing] for these in (own, versions))
        return f"{socket.gethostname()} has {', '.join(here)}, and the host of sweep has {', '.join(there)}."
    if metrics not in _workers:
        _workers[metrics] = _Worker(metrics)
    try:
        return _workers[metrics].measure(task)
    except UsageError as error:
        return str(error)


def find_versions() -> dict[str, str]:
    """Return the versions of what decides a metric's last digit."""
    from importlib.metadata import version

    return {"sweep": VERSION, **{name: version(name) for name in ("numpy", "Pillow")}}


_workers: dict[bytes, _Worker] = {}  # in a process of Ray: it ends with that process

NICENESS = 10
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one core a process


def start_process(module: str, *arguments: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start a module of ours with our environment and import path (a notebook may have added to it) and one thread."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", f"sweep.study.measuring.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONPATH": path},
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )


def start_follower(folder: Path) -> subprocess.Popen[bytes]:
    """Start to measure the images of a run as they finish. Kill the process when the run has ended.

    It writes a line whenever it has measured all that there is.
    """
    return start_process("measurements", str(folder), stderr=subprocess.DEVNULL)


def step_back() -> None:
    """Take low priority, and let the parent decide when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def send(stream: BinaryIO, message: object) -> None:
    """Write a message; the other side reads it with `pickle.load`."""
    pickle.dump(message, stream)
    stream.flush()


def serve_tasks(tasks: BinaryIO, answers: BinaryIO) -> None:
    """Read the metrics, then answer one task after the other, until EOFError at the stream's end."""
    from sweep.study.measuring.task import measure_task

    try:
        metrics: tuple[Metric, ...] = pickle.loads(pickle.load(tasks))  # noqa: S301  from our parent
    except (AttributeError, ImportError, pickle.UnpicklingError) as error:
        send(answers, f"a metric cannot be imported by worker processes ({error}); define it in a module")
        return
    send(answers, None)
    references: References = OrderedDict()
    while True:
        task: Task = pickle.load(tasks)  # noqa: S301
        send(answers, measure_task(task, metrics, references))


def run_worker() -> None:
    """Serve the parent on the pipes it gave. What a metric prints goes to standard error, not into the answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with suppress(EOFError, pickle.UnpicklingError):
            serve_tasks(sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone, nobody to tell


if __name__ == "__main__":
    step_back()
    run_worker()
