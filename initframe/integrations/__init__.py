"""Glue to other libraries: one file each, which imports its library; nothing else of initframe does."""
