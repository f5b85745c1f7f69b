"""The ONNX runtime: single steps of a model as graphs, written once, run by ONNX Runtime without torch."""
