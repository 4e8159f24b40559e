"""Whether a page counts, and how far."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ("Capped", "TotalPolicy", "check_total")


@dataclass(frozen=True, slots=True)
class Capped:
    """Count up to `limit` items and no further: the total of more is `limit`, `total_capped`."""

    limit: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"Capped({self.limit}) counts nothing: give 1 or more")


TotalPolicy: TypeAlias = Literal["exact", "none"] | Capped | int
"""`"exact"` counts, `"none"` does not, `Capped(1000)` counts to 1000, and a number is the total."""


def check_total(total: object) -> None:
    """Check that `total` is a policy.

    Raises:
        ValueError: It is something else.
    """
    is_number = isinstance(total, int) and total >= 0
    if not is_number and not isinstance(total, Capped) and total not in ("exact", "none"):
        raise ValueError(
            f'total={total!r} is no way to count: give "exact", "none", Capped(...) or a number'
        )
