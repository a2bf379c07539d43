"""Residency alone, fast: instant loads on a virtual clock, rival policies, and a proven bound."""
