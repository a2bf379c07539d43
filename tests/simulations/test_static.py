"""The best static set is really the best, and really fits."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from simulations.static import best_static_set

MIB = 2**20

worlds = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.tuples(st.integers(0, 50), st.integers(1, 12 * MIB)),
    max_size=7,
)


@given(worlds, st.integers(0, 30))
def test_no_other_set_that_fits_would_have_served_more(
    world: dict[str, tuple[int, int]], budget_mib: int
) -> None:
    requests = {name: count for name, (count, _) in world.items()}
    sizes = {name: size for name, (_, size) in world.items()}
    chosen = best_static_set(requests, sizes, budget_mib * MIB)
    rounded = {name: -(-size // MIB) for name, size in sizes.items()}
    assert sum(rounded[name] for name in chosen) <= budget_mib
    best = max(
        sum(requests[name] for name in others)
        for count in range(len(world) + 1)
        for others in combinations(world, count)
        if sum(rounded[name] for name in others) <= budget_mib
    )
    assert sum(requests[name] for name in chosen) == best
