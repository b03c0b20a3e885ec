"""Data: preparation in BasicSR's layout, the demo set, checks before a run, calibration pictures."""
