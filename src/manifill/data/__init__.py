"""Pictures to train on."""
