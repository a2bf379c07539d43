"""custom.metrics.k8s.io and external.metrics.k8s.io: who may ask, and what is answered."""
