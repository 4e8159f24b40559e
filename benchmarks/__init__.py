"""fastkit beside what it is compared with: `python -m benchmarks` runs all, `... errors` one."""
