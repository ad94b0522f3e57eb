"""`python -m benchmarks [NAME …] [--json FILE]`: prints the table for the README; being slow is no failure."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.figures import Figure, as_json, machine, markdown

NAMES = (
    *("overhead", "idle", "saturation", "hosts", "agents", "live", "million", "memory"),
    *("start", "metrics", "pairs", "report"),
)


def main(arguments: Sequence[str]) -> None:
    """Measure what was asked for; what cannot be measured here says so in a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    figures: list[Figure] = []
    about = machine()
    for name in [each for each in NAMES if each in (chosen.names or NAMES)]:
        print(f"{name} …", file=sys.stderr, flush=True)
        measure: Callable[[], list[Figure]] = import_module(f"benchmarks.{name}").measure
        figures += measure()
        if chosen.json:
            chosen.json.write_text(json.dumps(as_json(figures, about), indent=1) + "\n", encoding="utf-8")
    print(markdown(figures, about))


if __name__ == "__main__":
    main(sys.argv[1:])
