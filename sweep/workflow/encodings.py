"""How what a role says is written into a node's field: denoise strength, above all, which nodes take turned around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sweep.workflow.graph import Value

_EXPONENT = 0.2  # of InvokeAI's "optimized denoising", on by default there for FLUX and SD 3


@dataclass(frozen=True, slots=True)
class Encoding:
    """A named pure function from a role's value to a field's.

    - `identity`: the value itself.
    - `one_minus`: strength s as `denoising_start = 1 − s`; exact in decimal, so that 1 − 0.3 is 0.7.
    - `one_minus_fifth_root`: strength s as `denoising_start = 1 − s^0.2`, as InvokeAI's own interface sends it for
      FLUX, FLUX.2 and SD 3 with "optimized denoising". Rounded to 9 decimals, so that every machine agrees.

    `limit` bounds what comes out from above: where a refiner takes over, the first model cannot start later.
    """

    name: Literal["identity", "one_minus", "one_minus_fifth_root"] = "identity"
    limit: float = 1.0

    def __call__(self, value: Value) -> Value:
        """Raises ValueError with a sentence where the value has no encoding: a strength outside 0 to 1."""
        if self.name == "identity":
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"a strength is a number from 0 to 1, not {value!r}")  # noqa: TRY004 (a user's value)
        if not 0 <= value <= 1:
            raise ValueError(f"a strength is a number from 0 to 1, not {value}")
        return min(float(1 - Decimal(repr(value))) if self.name == "one_minus" else _root(value), self.limit)

    def formula(self, role: str) -> str:
        """The function in words, of a role: `1 − denoise_strength`."""
        turned = {"one_minus": f"1 − {role}", "one_minus_fifth_root": f"1 − {role}^0.2"}.get(self.name, role)
        return turned if self.limit >= 1 else f"min({self.limit:g}, {turned})"


IDENTITY = Encoding()
ONE_MINUS = Encoding("one_minus")
ONE_MINUS_FIFTH_ROOT = Encoding("one_minus_fifth_root")


def _root(strength: float) -> float:
    return round(1.0 - math.pow(strength, _EXPONENT), 9)
