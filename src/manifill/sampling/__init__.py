"""Structure codes from a structure generator: one signature, several ways, the same codes."""
