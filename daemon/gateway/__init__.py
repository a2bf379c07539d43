"""The fleet's gateway: an Envoy that sends each model's requests to the pod that has it."""
