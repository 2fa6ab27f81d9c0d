"""Early exit: encoders that skip layers and LSTMs that skip tokens once a prediction is confident.

May import predict.predictors, evaluation and calibration.
Start at transformer_exit.py.
"""
