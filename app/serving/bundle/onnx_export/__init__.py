"""Conversion of scikit-learn models to ONNX."""
