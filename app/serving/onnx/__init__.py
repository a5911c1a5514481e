"""Models as ONNX graphs: converted from scikit-learn or brought along, and run by onnxruntime."""
