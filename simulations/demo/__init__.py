"""The demo: a real Triton with more models than memory, the real sidecar and a real Envoy beside
it, and traffic that shifts. It knows the sidecar as anyone would, by its settings and its pages."""

from simulations.demo.play import run_demo
from simulations.demo.stage import DemoError

__all__ = ["DemoError", "run_demo"]
