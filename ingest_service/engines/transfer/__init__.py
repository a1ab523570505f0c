"""A journal on its way from one engine, or one machine, to another."""
