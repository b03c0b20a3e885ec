"""Writes a deploy graph as ONNX and TFLite files."""
