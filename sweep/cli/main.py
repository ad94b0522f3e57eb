"""Run one command line: print an error as a sentence on stderr and return the exit code."""

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
    """Run one command line and return its exit code."""
    try:
        return _run_command(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except RuntimeError as error:  # Python 3.11 puts it around what is raised while a class is being made
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return 0


def _run_command(arguments: list[str]) -> int:
    """Parse and run one command line; heavy modules are imported in here, after Ctrl-C can be handled."""
    from typer import Abort
    from typer.exceptions import TyperException

    from sweep.cli.console import configure_streams, print_error
    from sweep.cli.parser import command_line, usage_error
    from sweep.errors import SweepError, UsageError

    configure_streams()
    try:
        words = arguments or ["--help"]
        code = int(command_line(words[0])(words, prog_name="sweep", standalone_mode=False) or 0)
        sys.stdout.flush()
    except Abort:
        return INTERRUPTED
    except TyperException as error:
        fault: SweepError = usage_error(error, words)
    except SweepError as error:
        fault = error
    except UnicodeEncodeError as error:  # where file names are not UTF-8
        hint = "Set PYTHONUTF8=1, or a locale with UTF-8."
        fault = UsageError(f"File names here are {error.encoding}, which cannot write {error.object!r}.", hint=hint)
    except SystemExit:  # the parser exits like this on a closed pipe
        raise BrokenPipeError from None
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EIO and error.filename is None:  # the terminal we print to was closed
            raise BrokenPipeError from None
        fault = _from_os_error(error)
    else:
        return code
    try:
        print_error(fault)
        sys.stdout.flush()
    except OSError:  # a stream is closed or its device full; the exit code still tells
        _discard_output()
    return fault.exit_code


def _from_os_error(error: OSError) -> SweepError:
    """Turn an error of the operating system into ours, with the file it concerns."""
    from sweep.errors import DiskFullError, RecordError

    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if named is not None and named.suffix == ".part":  # a half-written file: name the folder
        named = named.parent
    place = f"{named}: " if named else ""
    kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else RecordError
    return kind(f"{place}{error.strerror or error}.")


def _discard_output() -> None:
    """Discard buffered output after its reader closed the pipe, so that Python prints no error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
