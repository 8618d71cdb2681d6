"""Pictures to train on, and the holes that training makes in them (`masks`)."""
