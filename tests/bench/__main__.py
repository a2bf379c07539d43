"""All measurements, one after the other: ``python -m tests.bench``."""

from tests.bench import cold_start, door_memory, door_speed, journal_size, plan_speed, sidecar_cost

for bench in (plan_speed, journal_size, sidecar_cost, door_speed, cold_start, door_memory):
    print(f"\n{(bench.__doc__ or '').splitlines()[0]}\n")
    bench.main()
