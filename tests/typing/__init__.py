"""What a type checker sees of the public API: these files are checked and never run.

A line that must be an error is marked as one for each checker, and a mark without an error fails.
"""
