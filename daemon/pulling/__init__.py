"""Fills a model repository from a registry, a bucket or a folder, in a process of its own."""
