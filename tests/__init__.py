"""Sentences about behaviour."""
