"""The kernels of gpuaug: the arithmetic in `shared`, and a renderer around it in each of `cpu`, `triton` and `torch`.

This folder stands at the top of the repository and is installed as ``gpuaug.kernels``. It uses relative imports only
and never imports ``gpuaug``.
"""

if __name__ == "kernels":  # started in the root of the repository, where another package's name leads here
    # Empty, and nowhere: so one who looks for that package (transformers does) sees that it is not installed.
    __file__, __path__ = None, []

    def __getattr__(name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(
            "this folder is the package gpuaug.kernels and is not imported as 'kernels', which is another package's "
            "name. Install the project (`pip install -e .` in its root) and use `import gpuaug.kernels`. If you wanted "
            "the other package, start Python from a folder other than the root of gpuaug."
        )
