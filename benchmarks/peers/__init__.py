"""One script for each contender of `benchmarks.teacher`; each runs in an environment of its own."""
