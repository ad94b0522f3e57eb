"""The experiment's facts in the journal, and what is read of journals that lack them."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

from sweep.record import ExperimentAxis, ExperimentFacts, RecordedResults, RunFacts, SqliteJournal

FACTS = ExperimentFacts(
    name="cup",
    description="How far?",
    workflow="img2img",
    inputs={"image": "cup.png", "lora": [{"name": "a", "weight": 0.5}]},
    axes=(ExperimentAxis(name="seed", kind="seed", size=2, levels=(1, 2)),),
    metrics=("ssim",),
    baseline={"seed": 1},
)

TEXT = """
name: cup
description: How far?
workflow: img2img
inputs: {image: cup.png}
axes: {seed: [1, 2]}
study: {metrics: [ssim], baseline: {seed: 1}}
"""


async def open_results(folder: Path) -> RecordedResults:
    return await anyio.to_thread.run_sync(RecordedResults.open, folder)


async def facts_of(results: RecordedResults) -> ExperimentFacts:
    return await anyio.to_thread.run_sync(lambda: results.facts)


async def begin(folder: Path, text: str, facts: ExperimentFacts | None) -> RecordedResults:
    async with await SqliteJournal.open(folder) as journal:
        await journal.begin_run(
            RunFacts(experiment=text, fingerprint="f", axes=(("seed", "seed"),), points=2, experiment_facts=facts)
        )
    return await open_results(folder)


async def test_facts_of_the_last_run_are_read_back_whole(tmp_path: Path) -> None:
    await begin(tmp_path, "name: other", ExperimentFacts(name="other"))
    assert await facts_of(await begin(tmp_path, "not: read", FACTS)) == FACTS


async def test_facts_of_an_older_journal_come_from_its_yaml(tmp_path: Path) -> None:
    facts = await facts_of(await begin(tmp_path, TEXT, None))
    assert facts == ExperimentFacts(
        name="cup",
        description="How far?",
        workflow="img2img",
        inputs={"image": "cup.png"},
        axes=(ExperimentAxis(name="seed", kind="seed"),),
        metrics=("ssim",),
        baseline={"seed": 1},
    )


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "study: 3\nname: null"])
async def test_facts_of_a_yaml_that_does_not_read_are_empty(tmp_path: Path, text: str) -> None:
    facts = await facts_of(await begin(tmp_path, text, None))
    assert (facts.name, facts.metrics, facts.inputs) == (None, (), {})


async def test_facts_are_empty_before_the_first_run(tmp_path: Path) -> None:
    async with await SqliteJournal.open(tmp_path):
        pass
    assert await facts_of(await open_results(tmp_path)) == ExperimentFacts()


def test_facts_leave_out_what_a_later_version_adds() -> None:
    assert ExperimentFacts.from_json('{"name": "cup", "mood": 3}') == ExperimentFacts(name="cup")
