"""The sidecar's page of metrics. Knows no names of its own."""

from collections.abc import Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


async def samples(url: str, names: Sequence[str]) -> list[float]:
    """Each named sample's value now, summed over its labels; 0 where there is none yet."""
    async with aiohttp.ClientSession(url) as session, session.get("/metrics") as answer:
        page = await answer.text()
    found = dict.fromkeys(names, 0.0)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    return list(found.values())
