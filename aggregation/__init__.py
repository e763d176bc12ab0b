"""Tensors to model: schema, codecs, exact sums, rules, server optimizers.

Pure functions of numpy arrays and bytes. The same bits on every CPU, whatever the order, chunking or thread count.
"""
