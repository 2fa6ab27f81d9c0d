"""Language models: perplexity, generation with a KV cache, sampling, dynamic evaluation.

May import predict.predictors and engine.
Start at language_model.py, then generation.py.
"""
