"""Prefect flows: order, retries and progress; no logic."""
