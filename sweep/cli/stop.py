"""`sweep stop` and `sweep cancel`: end a run from another terminal."""

from __future__ import annotations

from pathlib import Path

from sweep.cli import options as shared


def stop(run: shared.RunArgument, results: shared.ResultsRoot = Path("results")) -> None:
    """Have a run finish what is in flight, and end.

    As Ctrl-C does in its own terminal.
    """
    _ask(run, results, 1)


def cancel(run: shared.RunArgument, results: shared.ResultsRoot = Path("results")) -> None:
    """Have a run cancel what it has on its servers, and end.

    As a second Ctrl-C does in its own terminal. Other people's items are not touched.
    """
    _ask(run, results, 2)


def _ask(run: str, results: Path, stage: int) -> None:
    from sweep.cli.console import say
    from sweep.cli.options import results_folder
    from sweep.engine import request_stop
    from sweep.errors import UsageError
    from sweep.record import holder, in_use

    folder = results_folder(run, results)
    noted, words = holder(folder), "finishes what is in flight" if stage == 1 else "cancels what it has on its servers"
    if in_use(folder):
        request_stop(folder, stage)
        say(f"{folder.name}: {noted or 'the run'} {words}.")
    elif noted is not None and noted.elsewhere():
        request_stop(folder, stage)
        say(f"{folder.name}: if {noted} is still at work there, it sees this in the folder and {words}.")
    else:
        hint = f"sweep status {run} tells how the last one ended."
        raise UsageError(f"No run is going on in {folder}.", hint=hint)
