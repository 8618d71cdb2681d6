"""Training of the three stages; nothing else of the package imports this."""
