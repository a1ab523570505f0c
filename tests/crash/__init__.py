"""Proof by violence: kills, power cuts, broken disks, rude clients; run by `make test-crash`."""
