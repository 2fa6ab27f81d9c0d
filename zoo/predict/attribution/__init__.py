"""Attribution: how much each token speaks for the predicted class, on a terminal and as a page.

May import predict.predictors.
Start at integrated_gradients.py.
"""
