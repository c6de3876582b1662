"""What time makes billing do."""
