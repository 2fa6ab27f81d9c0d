"""TensorBoard event files, and the summaries of each task: curves, images, texts, embeddings.

May import metrics, workdir and files; does not train models.
Start at event_files.py, then task_views.py.
"""
