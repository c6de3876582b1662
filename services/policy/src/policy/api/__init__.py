"""Policy's HTTP door."""
