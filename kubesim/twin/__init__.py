"""The twin: the same cluster in the real kernel, to measure what the simulator predicts."""
