"""`remora fleet`: one view over the sidecars of many pods, served to the cluster."""
