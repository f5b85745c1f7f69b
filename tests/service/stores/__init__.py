"""Session stores, one by one."""
