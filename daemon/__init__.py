"""Does: talks to Triton, keeps the loop, publishes. What to do is decided in `policies`."""
