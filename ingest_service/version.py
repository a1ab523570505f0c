"""The version of the product; setup.cfg reads it from here."""

VERSION = "0.1.0"
