"""Runtimes: what runs the arithmetic of a checkpoint, behind one protocol with numpy at the border."""
