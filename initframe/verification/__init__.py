"""Manifests that are read again: their tensors made once more, and others compared with them."""
