"""The tests, which mirror `src/fastkit`, and the helpers they share."""
