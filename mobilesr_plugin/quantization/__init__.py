"""Int8 quantization as TFLite defines it: training, ranges, and evaluation in integers."""
