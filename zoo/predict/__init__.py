"""Prediction with a finished run, a room for each subject.

May import metrics, models, data, engine, model_info and workdir; knows neither adaptation nor the command line.
Start at predictors/loading.py.
"""
