"""What callers of gateway can do, and who callers of the platform are."""
