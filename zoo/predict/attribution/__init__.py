"""Attribution of a predicted class to tokens, by integrated gradients, on a terminal and as an HTML page.

May import predict.predictors.
Start at integrated_gradients.py.
"""
