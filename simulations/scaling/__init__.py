"""Deployments of simulated pods under a HorizontalPodAutoscaler, on a virtual clock."""
