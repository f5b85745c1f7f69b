"""What contexts and high-level actions of a trained model stand for: episodes with what the high level made of them."""
