"""Searches a policy's numbers on one part of a trace, and tells what they do on the other."""
