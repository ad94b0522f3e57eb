"""What is sent for a job: one graph, which of its nodes give whose images, and under which id."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.plan import FusedGraph, Instance, find_affected_keys, fuse
from sweep.record import Intent, JournalPoint


@dataclass(frozen=True, slots=True)
class ItemGraph:
    """One item: the graph to submit with its input images, and whose each output node is."""

    fused: FusedGraph
    images: Mapping[str, Path]  # SHA-256 → file
    owners: Mapping[str, str]  # output node → key

    @classmethod
    def build(cls, instances: Sequence[Instance]) -> ItemGraph:
        """Return the graph of one variation as it is, or of several with what they have in common made once."""
        fused = fuse(instances)
        images = {sha: path for instance in instances for sha, path in instance.images.items()}
        return cls(fused, images, {node: key for key, nodes in fused.outputs.items() for node in nodes})

    @classmethod
    def adopt(cls, instances: Sequence[Instance], intents: Sequence[Intent]) -> ItemGraph:
        """Return what an earlier attempt sent, with the output nodes on record: it may have held more variations."""
        item = cls.build(instances)
        outputs = {intent.key: intent.outputs for intent in intents}
        return cls(
            replace(item.fused, outputs=outputs),
            item.images,
            {node: key for key, nodes in outputs.items() for node in nodes},
        )

    @property
    def nodes(self) -> tuple[str, ...]:
        """All output nodes."""
        return tuple(self.owners)

    def find_culprits(self, node: str | None) -> frozenset[str]:
        """Return the keys that need the node that failed; all of them where it is not known which did."""
        return frozenset(self.fused.outputs if node is None else find_affected_keys(self.fused, node))


def make_batch_id(destination: str, run: int, numbers: Mapping[str, int]) -> str:
    """Return the batch id of an attempt: the same for the same results folder, run, keys and attempt numbers.

    The run is in it because attempts are counted anew where a variation is tried again on request: an item of the
    earlier count, still in the server's list, is not the answer to the new one.
    """
    text = "\n".join([f"{destination} {run}", *(f"{key} {number}" for key, number in numbers.items())])
    return str(uuid.UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest()))


def to_journal_point(instance: Instance) -> JournalPoint:
    """Return what the record keeps of a variation."""
    return JournalPoint(
        key=instance.key,
        index=instance.variation.index,
        values=instance.variation.values,
        prompt=instance.prompt,
        model=instance.model,
        source=instance.source,
    )
