"""A real Triton on this machine, models that really take memory, and traffic for them.

Owns what a test or a demonstration needs around the sidecar. Knows nothing of the sidecar: a caller
hands in whatever should happen when a request finds its model absent.
"""
