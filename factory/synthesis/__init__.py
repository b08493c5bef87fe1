"""Strategies that write training texts."""
