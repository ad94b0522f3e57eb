"""Byte-pair tokens of a prompt as CLIP reads them, from a model's own vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sweep.errors import UsageError

LONGEST = 77  # tokens CLIP takes, both ends included
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
WORD_END = "</w>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Byte-level byte-pair encoding of Radford et al. 2019 (GPT-2), lower-cased and with word ends, as in CLIP."""

    ids: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]

    @classmethod
    def load(cls, vocabulary: Path | None, merges: Path | None) -> Tokenizer:
        """From `vocab.json` and `merges.txt`. Raises UsageError where these are no such files."""
        if vocabulary is None or merges is None:
            raise UsageError("A tokenizer needs vocab.json and merges.txt.")
        try:
            ids = {str(token): int(number) for token, number in json.loads(vocabulary.read_text("utf-8")).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{vocabulary.name} is no vocabulary: {error}.") from error
        lines = [line.split() for line in merges.read_text("utf-8").splitlines() if not line.startswith("#version")]
        pairs = [(line[0], line[1]) for line in lines if len(line) == 2]
        if START not in ids or END not in ids:
            raise UsageError(f"{vocabulary.name} has no {START} and {END}: it is not CLIP's.")
        return cls(ids=ids, ranks={pair: rank for rank, pair in enumerate(pairs)})

    def encode(self, text: str) -> list[int]:
        """Token numbers with both ends, at most 77; what the vocabulary does not have is left out."""
        found = [
            self.ids[token]
            for word in WORDS.findall(" ".join(text.lower().split()))
            for token in self._merged(word)
            if token in self.ids
        ]
        return [self.ids[START], *found[: LONGEST - 2], self.ids[END]]

    def _merged(self, word: str) -> list[str]:
        letters = byte_letters()
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += WORD_END
        while len(parts) > 1:
            ranked = [(self.ranks.get((a, b), len(self.ranks)), i) for i, (a, b) in enumerate(pairwise(parts))]
            rank, at = min(ranked)
            if rank == len(self.ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts


def byte_letters() -> list[str]:
    """A printable letter for each byte: itself where it is one, else from 256 on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]
