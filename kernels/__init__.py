"""The kernels of gpuaug: the arithmetic in `shared`, and a renderer around it in each of `cpu`, `triton` and `torch`.

This folder stands at the top of the repository and is installed as ``gpuaug.kernels``. It uses relative imports only
and never imports ``gpuaug``.
"""

if __name__ == "kernels":
    raise ImportError(
        "this folder is the package gpuaug.kernels and is not imported as 'kernels', which is another package's name. "
        "Install the project (`pip install -e .` in its root) and use `import gpuaug.kernels`. If you wanted the other "
        "package, start Python from a folder other than the root of gpuaug."
    )
