"""Option files checked against what BasicSR does with them, before a run begins."""
