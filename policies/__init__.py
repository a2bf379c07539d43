"""Decides which models are resident. Pure: no I/O, clock, randomness, logging or asyncio."""
