"""The one door: accept and plan, look, operate; frozen in, frozen out."""
