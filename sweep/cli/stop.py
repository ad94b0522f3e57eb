"""`sweep stop` and `sweep cancel`: end a run from another terminal."""

from __future__ import annotations

from pathlib import Path

from sweep.cli import options as shared


def stop(run: shared.RunArgument, results: shared.ResultsRoot = Path("results")) -> None:
    """Stop a run after the jobs in flight are finished.

    The same as Ctrl-C in the terminal of the run.
    """
    _request(run, results, 1)


def cancel(run: shared.RunArgument, results: shared.ResultsRoot = Path("results")) -> None:
    """Cancel the jobs of a run on its servers and stop it.

    The same as a second Ctrl-C in the terminal of the run. Jobs of other people are not touched.
    """
    _request(run, results, 2)


def _request(run: str, results: Path, stage: int) -> None:
    from sweep.cli.console import print_line
    from sweep.cli.options import find_run
    from sweep.engine import request_stop
    from sweep.errors import UsageError
    from sweep.record import holder, in_use

    folder = find_run(run, results)
    noted, words = holder(folder), "finishes the jobs in flight" if stage == 1 else "cancels its jobs on the servers"
    if in_use(folder):
        request_stop(folder, stage)
        print_line(f"{folder.name}: {noted or 'the run'} {words}.")
    elif noted is not None and noted.elsewhere():
        request_stop(folder, stage)
        print_line(f"{folder.name}: if {noted} is still running on its machine, it {words}.")
    else:
        hint = f"sweep status {run} shows how the last run ended."
        raise UsageError(f"Nothing is running in {folder}.", hint=hint)
