"""The front door: requests for models that are not loaded wait here and do not fail."""
