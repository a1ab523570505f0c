"""What is shipped beside the service, tried as far as one machine can; `make test-deploy`."""
