"""Training: configuration, the loop, its logs and checkpoints, and the evaluation of what came out."""
