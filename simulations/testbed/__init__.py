"""A real Triton on this machine, models that really take memory, and traffic for them.

Owns what a test or a demonstration needs around the sidecar, and a real Envoy in front. Knows
nothing of the sidecar itself but the command that writes Envoy's bootstrap.
"""
