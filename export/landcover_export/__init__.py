"""Training, evaluation and export of land-cover networks: the only package that imports torch.

A network becomes a file by `train`, a number by `evaluate` and a model that any runtime serves by `export`.
"""
