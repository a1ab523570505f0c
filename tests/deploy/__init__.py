"""What is shipped beside the service."""
