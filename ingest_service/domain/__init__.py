"""Plain data and pure decisions: no clock, no I/O, no lock; imports nothing of ours."""
