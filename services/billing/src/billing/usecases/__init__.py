"""What a caller of billing can do, one function each."""
