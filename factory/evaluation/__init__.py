"""Metrics with intervals, calibration, comparison with the teacher and the baselines, the report."""
