"""The command, as it is used."""
