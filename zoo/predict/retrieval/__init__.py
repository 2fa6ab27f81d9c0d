"""Search by embeddings and by BM25, its evaluation, and extractive summaries.

May import predict.predictors, models and data.
Start at embedder.py, then index.py.
"""
