"""Tests of the front that need no server."""
