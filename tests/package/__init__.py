"""The package, built and installed; `make test-package`."""
