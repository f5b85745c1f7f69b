"""How the torch runtime keeps a GPU busy: kernels of our own, and searches that are recorded once and replayed.

A search of one session is thousands of operations of a few microseconds each. Called one by one from Python they take
ten times as long as the GPU needs. So

- :mod:`~thick.runtimes.torch.gpu.kernels` does what lies between two matrix products in one kernel (Triton);
- :mod:`~thick.runtimes.torch.gpu.rollouts` imagines and scores candidates with them;
- :mod:`~thick.runtimes.torch.graphs` replays a function as one CUDA graph for each shape;
- :mod:`~thick.runtimes.torch.gpu.recorded` replays a whole search, a slice a graph;
- :mod:`~thick.runtimes.torch.gpu.lookahead` answers the search over jumps for several levels of its tree at once.

Nothing here is loaded on a CPU. Results equal those of the torch operations up to rounding.
"""
