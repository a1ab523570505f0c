"""Any number of machines, as far as one can tell on a single one: minutes, not seconds."""
