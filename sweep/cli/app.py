"""The command `sweep`: arguments in, an exit code out; what goes wrong is a sentence on stderr."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sweep.errors import SweepError


INTERRUPTED: Final = 130


def run_cli(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        code = _answered(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _nobody_listens()
        return 0
    return code


def _answered(arguments: list[str]) -> int:
    """The exit code of one command line; what is heavy is imported in here."""
    from typer import Abort, Exit
    from typer.exceptions import TyperException

    from sweep.cli.commands import command_line, misused
    from sweep.cli.console import complain, safe_streams
    from sweep.errors import SweepError

    safe_streams()
    try:
        return int(command_line()(arguments or ["--help"], prog_name="sweep", standalone_mode=False) or 0)
    except Exit as exit_:
        return exit_.exit_code
    except Abort:
        return INTERRUPTED
    except TyperException as error:
        fault: SweepError = misused(error)
    except SweepError as error:
        fault = error
    except SystemExit:  # the parser's own answer to a closed pipe
        raise BrokenPipeError from None
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EIO and error.filename is None:  # the terminal we print to was closed
            raise BrokenPipeError from None
        fault = _of_the_system(error)
    complain(fault)
    return fault.exit_code


def _of_the_system(error: OSError) -> SweepError:
    """What a file or folder refused, in a sentence."""
    from sweep.errors import DiskFullError, RecordError

    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if named is not None and named.suffix == ".part":  # what was to become another file
        named = named.parent
    place = f"{named}: " if named else ""
    kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else RecordError
    return kind(f"{place}{error.strerror or error}.")


def _nobody_listens() -> None:
    """The reader of our output went away: what is still buffered goes nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
