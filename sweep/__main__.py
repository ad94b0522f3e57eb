"""`python -m sweep`, and what the console script calls. First it imports next to nothing, so that Ctrl-C is quiet."""

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with the documented exit code.

    Until the modules are loaded, and again once all is done, there is nothing to put in order: Ctrl-C just ends it.
    """
    _open_closed_streams()
    usual = signal.getsignal(signal.SIGINT)
    heeded = usual is not signal.SIG_IGN  # a shell's background job: its terminal's Ctrl-C is not meant for it
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    from sweep.cli import main as app
    from sweep.cli import parser as line  # noqa: F401  the parser too, which is most of it

    if heeded:
        signal.signal(signal.SIGINT, usual)
    code = app.run_cli(sys.argv[1:])
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open what the caller closed (>&-), before a file of ours gets its number: what is printed goes nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _leave(*_: object) -> None:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
