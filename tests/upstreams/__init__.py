"""Tests of the ways to reach an external API."""
