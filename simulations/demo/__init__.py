"""The demo: a real Triton with more models than memory, the real sidecar beside it, and
traffic that shifts. It talks to the sidecar as anyone would, over its HTTP port."""

from simulations.demo.stage import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
