"""Measurements: latency of exported files."""
