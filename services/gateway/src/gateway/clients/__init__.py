"""How the edge reaches the services behind it."""
