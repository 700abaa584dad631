"""Writers of TensorBoard files by framework."""
