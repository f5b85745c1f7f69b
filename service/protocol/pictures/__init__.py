"""Pictures of what a model imagines: drawing and sheets."""
