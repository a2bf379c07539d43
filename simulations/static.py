"""The best that never changes: which set of models, chosen with hindsight and then left
alone, would have served the most of a workload within a budget."""

from collections.abc import Mapping


def best_static_set(
    requests: Mapping[str, int], size_bytes: Mapping[str, int], budget_bytes: int
) -> frozenset[str]:
    """The models that fit into ``budget_bytes`` together and had the most requests.

    requests: how many each model had. size_bytes: of each of them. Sizes are rounded up
    to MiB, and the answer is exact to that.
    """
    room = budget_bytes >> 20
    # best[r]: most requests served within r MiB, and by whom.
    best: list[tuple[int, frozenset[str]]] = [(0, frozenset())] * (room + 1)
    for name in sorted(requests):
        size = -(-size_bytes[name] // 2**20)
        for free in range(room, size - 1, -1):
            served, others = best[free - size]
            if served + requests[name] > best[free][0]:
                best[free] = (served + requests[name], others | {name})
    return best[room][1]
