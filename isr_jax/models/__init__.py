"""Models as files, ours and PyTorch's."""
