"""Measures what Remora costs; `python -m tests.bench.NAME` runs one measurement."""
