"""The renderer over torch: eager, whole images at a time, on any device."""
