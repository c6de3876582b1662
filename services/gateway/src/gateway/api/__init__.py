"""The public door, and the HTTP door of gateways."""
