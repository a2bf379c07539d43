"""A Triton pod with its sidecar on a virtual clock, in which the production plan decides."""
