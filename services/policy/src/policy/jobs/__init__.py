"""Policy's clock door."""
