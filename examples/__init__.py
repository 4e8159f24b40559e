"""Apps that use fastkit, each with its test beside it."""
