"""Photos, masks and results in folders."""
