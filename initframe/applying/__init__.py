"""Plan → tensors, in place, sharded or on disk: the only room that writes to a tensor."""
