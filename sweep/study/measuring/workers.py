"""Workers measure tasks on all cores with bounded memory, and outlive the crashes of their processes.

A task has images to decode and measure; one that cannot be read gives a reason. A worker is a process that reads tasks
from standard input and answers them. Processes of our own rather than `multiprocessing`, because that imports the
caller's main module again: a notebook, or a script without a main guard, would break. They end when their input ends,
so they never outlive their parent. On a Ray cluster its tasks hold such a process each, so that numbers are those of
one machine, bit for bit.
"""

from __future__ import annotations

import math
import os
import pickle
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, cast

from sweep.errors import SweepError, UsageError
from sweep.study.metrics.base import (
    DecodedImage,
    ImagePair,
    Metric,
    SentImage,
    UnreadableImageError,
    compute_working_shape,
    decode,
    resize_image,
)
from sweep.version import VERSION

KEPT_REFERENCES = 8  # decoded and reduced; most images of a table share theirs
TASK_TRIES = 2  # a task whose worker dies twice is given up: it is the image, not the worker
WAITING = 4  # tasks per worker that are drawn ahead: memory stays bounded
LOST: Final = "the process that measured it died, twice"
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one core a process
_FEW = 12  # images a worker process must have to be worth its start
_LOOK_SECONDS = 1.0  # between looks at how many CPUs the cluster has


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Images to measure together: one, or the images of a cell. `rows` are theirs in the table; `metrics` counts
    into the pool's metrics.
    """

    rows: tuple[int, ...]
    images: tuple[Path | SentImage, ...]
    metrics: tuple[int, ...]
    reference: Path | SentImage | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """The values of one image in the order of the task's metrics, NaN where there is none; `reason` says why."""

    values: tuple[float, ...]
    reason: str | None = None


TaskAnswer: TypeAlias = tuple[Task, list[MeasuredImage]]
OnRay: TypeAlias = Literal["ray"]
LoadReference: TypeAlias = Callable[["Path | SentImage", tuple[int, int]], DecodedImage]


def load_reference(path: Path | SentImage, shape: tuple[int, int]) -> DecodedImage:
    """Load an image to compare with, at this width and height. Raises UnreadableImageError."""
    return resize_image(decode(path), shape)


def measure_task(task: Task, metrics: Sequence[Metric], load: LoadReference = load_reference) -> list[MeasuredImage]:
    """Measure a task: one entry an image. Never raises for an image that cannot be read.

    `load`: `load_reference`, or what keeps the images that it loaded.
    """
    chosen = [metrics[i] for i in task.metrics]
    images = [read_image(path, {metric.working_size for metric in chosen}) for path in task.images]
    return [_measure_image(image, images, task, chosen, load) for image in images]


def read_image(path: Path | SentImage, sizes: Collection[int]) -> dict[int, DecodedImage] | str:
    """Read an image, at each of these working sizes; or say why it cannot be read."""
    try:
        whole = decode(path)
    except UnreadableImageError as error:
        return error.message
    return {size: resize_image(whole, compute_working_shape(*whole.size, size)) for size in sizes}


def _measure_image(
    image: dict[int, DecodedImage] | str,
    images: Sequence[dict[int, DecodedImage] | str],
    task: Task,
    metrics: Sequence[Metric],
    load: LoadReference,
) -> MeasuredImage:
    """Measure one image alone, against its reference and against the other readable images of its size."""
    if isinstance(image, str):
        return MeasuredImage((math.nan,) * len(metrics), image)
    others = [other for other in images if other is not image and isinstance(other, dict)]
    views = {size: _make_view(image[size], [other[size] for other in others], task, load) for size in image}
    found = [_measure_view(metric, *views[metric.working_size]) for metric in metrics]
    reasons = (reason for _, reason in found if reason)
    return MeasuredImage(tuple(value for value, _ in found), next(reasons, None))


def _make_view(
    image: DecodedImage, others: Sequence[DecodedImage], task: Task, load: LoadReference
) -> tuple[ImagePair, str | None]:
    """Build the view, and say why it has no reference where it should have one."""
    height, width = image.rgb.shape[:2]
    reference, unread = None, None
    try:
        reference = load(task.reference, (width, height)) if task.reference else None
    except UnreadableImageError as error:
        unread = f"reference: {error.message}"
    alike = tuple(other for other in others if other.rgb.shape == image.rgb.shape)
    return ImagePair(image=image, reference=reference, prompt=task.prompt, others=alike), unread


def _measure_view(metric: Metric, view: ImagePair, unread: str | None) -> tuple[float, str | None]:
    """Compute a metric's value, or NaN and the reason; an image that is alone in its cell needs none."""
    if metric.reference == "image" and unread:
        return math.nan, unread
    if metric.reference == "cell" and not view.others:
        return math.nan, None
    try:
        value = float(metric.measure(view))
    except Exception as error:  # noqa: BLE001  a metric of another package may raise anything: that is its reason
        return math.nan, f"{metric.name}: {type(error).__name__}: {error}"
    if math.isfinite(value):
        return value, None
    return math.nan, f"{metric.name} has no value for this image"


def measure_all(
    tasks: Sequence[Task], metrics: Sequence[Metric], *, workers: int | OnRay | None
) -> Generator[TaskAnswer]:
    """Yield answers as they come, in any order. `workers` processes; None: at most one a core; 0: in this one; "ray":
    on all CPUs of the cluster that this process has joined. Closing the generator ends the workers.

    Raises UsageError for fewer than no workers, or where a metric cannot be sent to another process.
    """
    if workers == "ray":
        return _measure_on_ray(tasks, metrics)
    count = _count_workers(workers, len(tasks))
    return _measure_in_workers(tasks, metrics, count) if count else _measure_here(tasks, metrics)


def _count_workers(asked: int | None, tasks: int) -> int:
    if asked is not None:
        if asked < 0:
            raise UsageError(f"Workers are at least 0, not {asked}.")
        return min(asked, tasks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, -(-tasks // _FEW))


def _measure_here(tasks: Iterable[Task], metrics: Sequence[Metric]) -> Generator[TaskAnswer]:
    load = lru_cache(KEPT_REFERENCES)(load_reference)
    for task in tasks:
        yield task, measure_task(task, metrics, load)


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
    return [MeasuredImage((math.nan,) * len(task.metrics), LOST)] * len(task.images)


class _Worker:
    """A worker process, started at the first task and again after it died."""

    def __init__(self, metrics: bytes) -> None:
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None

    def measure(self, task: Task) -> list[MeasuredImage]:
        for _ in range(TASK_TRIES):
            try:
                if self._process is None:
                    self._process = start_process()
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
    return {"sweep": VERSION, **{name: version(name) for name in ("numpy", "Pillow")}}


_workers: dict[bytes, _Worker] = {}  # in a process of Ray: it ends with that process


def start_process(*arguments: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start `__main__` of this package with one thread, our environment and our import path, to which a notebook may
    have added.
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "sweep.study.measuring", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONPATH": path},
        creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
    )


def start_follower(folder: Path) -> subprocess.Popen[bytes]:
    """Start to measure the images of a run as they finish (`measurements.follow`). Kill the process when the run has
    ended. It writes a line when it has measured for the first time all that there is.
    """
    return start_process(str(folder), stderr=subprocess.DEVNULL)


def send(stream: BinaryIO, message: object) -> None:
    """Write a message; the other side reads it with `pickle.load`."""
    pickle.dump(message, stream)
    stream.flush()


def run_worker() -> None:
    """Read the metrics, then answer one task after the other, on the pipes that the parent gave, until their end."""
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what a metric prints
    load = lru_cache(KEPT_REFERENCES)(load_reference)
    with suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
        try:
            metrics: tuple[Metric, ...] = pickle.loads(pickle.load(tasks))  # noqa: S301  from our parent
        except (AttributeError, ImportError, pickle.UnpicklingError) as error:
            send(answers, f"a metric cannot be imported by worker processes ({error}); define it in a module")
            return
        send(answers, None)
        while True:
            task: Task = pickle.load(tasks)  # noqa: S301
            send(answers, measure_task(task, metrics, load))
    os._exit(0)  # where the parent is gone, Python would fail to flush what is left for it
