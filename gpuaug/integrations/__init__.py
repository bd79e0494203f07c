"""What the training loops of other libraries need beside a pipeline; a module here imports the library of its name."""
