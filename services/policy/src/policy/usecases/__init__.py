"""What a caller of policy can do, one function each."""
