"""Worker processes that measure on all cores at low priority, with bounded memory, and outlive their own crashes.

On a Ray cluster its tasks hold such a process each, so that numbers are those of one machine, bit for bit.
"""

from __future__ import annotations

import pickle
import queue
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, cast

from sweep.errors import SweepError, UsageError
from sweep.study.measuring.follower import make_worker_environment
from sweep.study.measuring.task import MeasuredImage, References, Task, measure_task
from sweep.study.measuring.worker import receive, send
from sweep.study.metrics.planes import SentImage
from sweep.version import VERSION

if TYPE_CHECKING:
    from sweep.study.metrics.base import Metric


TaskAnswer: TypeAlias = "tuple[Task, list[MeasuredImage]]"
Pipes: TypeAlias = "tuple[BinaryIO, BinaryIO]"  # to the worker, from it
TASK_TRIES = 2  # a task whose worker dies twice is given up: it is the image, not the worker
WAITING = 4  # answers per worker that may wait for the caller: memory stays bounded


LOST: Final = "the process that measured it died, twice"
OnRay: TypeAlias = Literal["ray"]
_LOOK_SECONDS = 1.0  # between looks at whether to stop, while a cluster measures


class _Ended:
    """Put into the queue by a thread that is done; `error` is what ended it, if it was not the end of tasks."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def measure_all(
    tasks: Iterable[Task], metrics: Sequence[Metric], *, workers: int | OnRay, stop: threading.Event | None = None
) -> Generator[TaskAnswer]:
    """Yield answers as they come, in any order. `workers` processes; 0: in this one; "ray": on all CPUs of the cluster
    that this process has joined. Tasks are drawn only as workers are free. Ends early once `stop` is set. Closing the
    generator ends the workers.

    Raises UsageError where a metric cannot be sent to another process.
    """
    stop = stop or threading.Event()
    if workers == "ray":
        return _on_ray(tasks, metrics, stop)
    if workers == 0:
        return _here(tasks, metrics, stop)
    return _there(tasks, metrics, workers, stop)


def _here(tasks: Iterable[Task], metrics: Sequence[Metric], stop: threading.Event) -> Generator[TaskAnswer]:
    references: References = OrderedDict()
    for task in tasks:
        if stop.is_set():
            return
        yield task, measure_task(task, metrics, references)


def _there(
    tasks: Iterable[Task], metrics: Sequence[Metric], workers: int, stop: threading.Event
) -> Generator[TaskAnswer]:
    answers: queue.Queue[TaskAnswer | _Ended] = queue.Queue(maxsize=workers * WAITING)
    source = _Shared(iter(tasks))
    closing = threading.Event()
    threads = [
        threading.Thread(target=_drive, args=(source, _pickled(metrics), answers, closing, stop), daemon=True)
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            answer = answers.get()
            if isinstance(answer, _Ended):
                running -= 1
                if answer.error is not None:
                    raise answer.error
            else:
                yield answer
    finally:
        closing.set()
        while any(thread.is_alive() for thread in threads):
            _drain(answers)
            threads[0 if threads[0].is_alive() else -1].join(0.02)


def _drain(answers: queue.Queue[TaskAnswer | _Ended]) -> None:
    while True:
        try:
            answers.get_nowait()
        except queue.Empty:
            return


def _pickled(metrics: Sequence[Metric]) -> bytes:
    try:
        return pickle.dumps(tuple(metrics))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"A metric cannot be sent to worker processes ({error}).", hint="Define it in a module."
        ) from error


class _Shared:
    """An iterator that several threads draw from."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()

    def next(self) -> Task | None:
        with self._lock:
            return next(self._tasks, None)


def _drive(
    source: _Shared,
    metrics: bytes,
    answers: queue.Queue[TaskAnswer | _Ended],
    closing: threading.Event,
    stop: threading.Event,
) -> None:
    """Make one thread, one worker: task by task until there are none."""
    worker = _Worker(metrics)
    error: BaseException | None = None
    try:
        while not closing.is_set() and not stop.is_set() and (task := source.next()) is not None:
            answers.put((task, worker.measure(task)))
    except BaseException as raised:  # noqa: BLE001  raised again by the reader of the queue
        error = raised
    finally:
        worker.close()
        answers.put(_Ended(error))


def _give_up(task: Task) -> list[MeasuredImage]:
    return [MeasuredImage((float("nan"),) * len(task.metrics), LOST)] * len(task.images)


class _Worker:
    """A worker process, started at the first task and again after it died."""

    def __init__(self, metrics: bytes) -> None:
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._pipes: Pipes | None = None

    def measure(self, task: Task) -> list[MeasuredImage]:
        for _ in range(TASK_TRIES):
            try:
                tasks, answers = self._pipes or self._start()
                send(tasks, task)
                answer: list[MeasuredImage] = receive(answers)
            except (EOFError, OSError):
                self.close()
            else:
                return answer
        return _give_up(task)

    def _start(self) -> Pipes:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sweep.study.measuring.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=make_worker_environment(),
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )
        pipes = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)
        self._process, self._pipes = process, pipes
        send(pipes[0], self._metrics)
        if (refusal := receive(pipes[1])) is not None:
            raise UsageError(f"{refusal[:1].upper()}{refusal[1:]}.")
        return pipes

    def close(self) -> None:
        """Kill it: it has nothing to lose. Harmless where it never ran."""
        process, pipes = self._process, self._pipes
        self._process, self._pipes = None, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in pipes or ():
            with suppress(OSError):  # what was still to be written is of no use to a killed process
                stream.close()


def _on_ray(tasks: Iterable[Task], metrics: Sequence[Metric], stop: threading.Event) -> Generator[TaskAnswer]:
    """Send tasks with their images, so many that no CPU waits for the next one.

    Raises UsageError where a host has other versions, SweepError where the cluster fails.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=TASK_TRIES - 1)(measure_sent)
    sent = ray.put(_pickled(metrics))
    source = iter(tasks)
    running: dict[Any, Task] = {}
    try:
        while not stop.is_set():
            cpus = int(ray.cluster_resources().get("CPU", 0))
            while len(running) < cpus * WAITING and (task := next(source, None)) is not None:
                running[remote.remote(_send_images(task), sent, find_versions())] = task
            if not running:
                if (task := next(source, None)) is not None:
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
