"""One HTML page that shows an export: pictures, accuracy, parity, training, operators, ranges, latency."""
