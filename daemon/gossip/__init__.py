"""Gossip between the sidecars of a fleet, over MQTT 5; imported where it is configured only."""
