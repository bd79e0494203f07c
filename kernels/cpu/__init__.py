"""The renderer over Numba: C functions of one row or one image, compiled for this processor and kept on disk."""
