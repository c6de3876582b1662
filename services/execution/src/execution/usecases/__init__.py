"""What a caller can do with execution, one function each."""
