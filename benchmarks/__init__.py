"""Scripts that measure the factory, beside its peers where there are any, and print a table."""
