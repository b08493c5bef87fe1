"""A page on this machine on which a person reviews rows: `factory review NAME`."""
