"""`sweep schema`: what an experiment file may hold, for editors."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON Schema of experiment files."""
    import json

    from sweep.cli.console import say
    from sweep.experiment.schema import experiment_schema

    say(json.dumps(experiment_schema(), indent=2, ensure_ascii=False))
