"""Identity's HTTP door."""
