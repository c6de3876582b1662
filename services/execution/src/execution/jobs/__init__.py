"""The clock door: what time makes execution do."""
