"""Commands that run something, or look at the journal; they may know the server."""
