"""The renderer over Triton: a kernel that draws and plans, and kernels that read and write pixels."""
