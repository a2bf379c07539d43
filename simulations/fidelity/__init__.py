"""The same traffic on a real Triton and in the simulated pod, side by side.

It knows the sidecar as anyone would, by its policy, its journal and its pages.
"""
