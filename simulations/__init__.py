"""Imagines: workloads, the test bed, and later the simulated pod; never imports daemon."""
