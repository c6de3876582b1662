"""Policy's pure rules."""
