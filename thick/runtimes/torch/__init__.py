"""The torch runtime: frozen weights on a CPU or a GPU."""
