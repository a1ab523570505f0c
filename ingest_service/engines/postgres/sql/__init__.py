"""The SQL of this engine."""
