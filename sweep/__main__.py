"""The entry point of `python -m sweep` and of the command `sweep`: it handles Ctrl-C before the slow imports begin."""

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with the documented exit code.

    Until its modules are loaded, and again after it has ended, nothing has to be saved: Ctrl-C ends the process.
    """
    _open_closed_streams()
    sys.unraisablehook = _leave_if_interrupted
    previous = signal.getsignal(signal.SIGINT)
    is_handled = previous is not signal.SIG_IGN  # else a background job of a shell: Ctrl-C is not meant for it
    if is_handled:
        signal.signal(signal.SIGINT, _leave)
    from sweep.cli import main as app
    from sweep.cli import parser as line  # noqa: F401  the parser too, which is most of it

    if is_handled:
        signal.signal(signal.SIGINT, previous)
    code = app.run_cli(sys.argv[1:])
    if is_handled:
        signal.signal(signal.SIGINT, _leave)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open streams that the caller closed (>&-) on the null device, before another file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _leave(*_: object) -> None:
    os._exit(_INTERRUPTED)


def _leave_if_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leave at a Ctrl-C that came where nothing can be raised; what one has left half made is deleted in silence."""
    if unraisable.exc_type is KeyboardInterrupt:
        _leave()


if __name__ == "__main__":
    main()
