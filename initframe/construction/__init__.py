"""Models built without memory, and the initialization that their constructors ask for."""
