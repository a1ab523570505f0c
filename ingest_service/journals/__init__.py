"""Journals that survive the process."""
