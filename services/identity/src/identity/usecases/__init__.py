"""What a caller of identity can do, one function each."""
