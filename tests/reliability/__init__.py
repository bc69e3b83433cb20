"""What happens to a service that is hurt."""
