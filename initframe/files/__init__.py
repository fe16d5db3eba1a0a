"""Files that hold tensors: their dtypes, one reader, one writer that is atomic."""
