"""A scenario as text, small enough to run many times."""

SMALL = """\
# Two models take turns, for there is memory for one.
workload:
  zipf: {models: 2, rate: 0.2, duration: 4m, exponent: 0, seed: 1}
  catalogue:
    models:
      "*": {size: 4GiB, load: 2s}
pod: {device: 6GiB}
policy:
  budget: 100%
  residency: {minimum: 10s}
expectations:
  requests: {at_least: 20, why: there is traffic}
"""

SMALL_FAST = """\
# Ten models, residency alone.
workload:
  zipf: {models: 10, rate: 0.2, duration: 1h, seed: 1}
speed: fast
budget: 0.3
"""
