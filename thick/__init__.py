"""THICK: world models that learn, at several time scales, when the world changes.

Nothing is imported here, so that ``import thick`` stays quick and free of torch; import what you need from
the subpackages: ``thick.envs`` (environments, torch-free), ``thick.models`` (world models),
``thick.training``, ``thick.planning``, ``thick.agent`` (a trained model that acts) and ``thick.export``.
"""
