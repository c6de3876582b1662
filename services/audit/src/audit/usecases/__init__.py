"""What audit does, one function each."""
