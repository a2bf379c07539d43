"""All measurements, one after the other: ``python -m tests.bench``."""

from tests.bench import (
    cold_start,
    door_memory,
    door_speed,
    fleet_live,
    fleet_plan,
    fleet_speed,
    gateway_load,
    gateway_speed,
    gossip_cost,
    journal_size,
    plan_speed,
    pod_speed,
    residency_speed,
    sidecar_cost,
)

BENCHES = (
    plan_speed,
    pod_speed,
    residency_speed,
    journal_size,
    sidecar_cost,
    door_speed,
    cold_start,
    door_memory,
    fleet_live,
    fleet_speed,
    gateway_speed,
    gateway_load,
    gossip_cost,
    fleet_plan,
)

for bench in BENCHES:
    print(f"\n{(bench.__doc__ or '').splitlines()[0]}\n")
    bench.main()
