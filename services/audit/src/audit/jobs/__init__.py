"""What time makes audit do."""
