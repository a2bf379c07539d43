"""A fleet of simulated pods that tell each other what they hold, behind a router."""
