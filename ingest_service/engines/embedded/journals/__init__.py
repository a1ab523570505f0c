"""Journals, and what the one in a file consists of."""
