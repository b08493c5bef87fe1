"""A released artifact answering texts."""
