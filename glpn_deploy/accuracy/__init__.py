"""A data set and an estimator give figures."""
