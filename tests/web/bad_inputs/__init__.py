"""What must not get in."""
