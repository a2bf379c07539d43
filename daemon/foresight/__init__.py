"""What a Prometheus knows of demand: what each model was asked before, and what it is asked now."""
