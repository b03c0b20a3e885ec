"""Measurements: accuracy and latency of checkpoints and exported files, SESR's training step."""
