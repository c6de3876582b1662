"""Gateway's clock door."""
