"""Recordings: how often each model was asked for, read from a Prometheus server into Parquet.

Knows Prometheus and the recording's file. Knows nothing of what is imagined from it.
"""
