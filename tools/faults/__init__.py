"""Faults on purpose: kills, full disks, lost processes and bad inputs, and what the commands make of them."""
