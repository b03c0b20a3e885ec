"""Checks that an exported file computes what validation saw."""
