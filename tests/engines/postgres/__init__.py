"""Tests of the engine on PostgreSQL."""
