"""What a progress must do, whatever it counts."""

from collections.abc import Sequence


def assert_counts(reports: Sequence[tuple[int, int]], first: int = 0) -> None:
    """Check counts of one stage: they begin at `first`, rise, and end at a total that stays."""
    done = [count for count, _ in reports]
    totals = {total for _, total in reports}
    assert len(totals) == 1, totals
    assert done[0] == first
    assert done == sorted(done)
    assert done[-1] == totals.pop()
