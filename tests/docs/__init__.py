"""The documentation: what of it is made from the code, and that the rest is true."""
