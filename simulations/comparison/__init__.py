"""Policies side by side on one workload: their figures, the distance to the bound, a report."""
