"""Commands that ask a service; they know its client and nothing else of ours."""
