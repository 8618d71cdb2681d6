"""Photos, and the squares of them that the networks see."""
