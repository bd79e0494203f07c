"""The arithmetic that all renderers share, over a name `xp` that `dialect` binds, and the layout of plans."""
