"""Filters and selectors over rows: each keeps some, rejects the others with a reason, and loses none."""
