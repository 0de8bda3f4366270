"""The studies: classical models, PCA, learning curves and feature sets over the tables of a store."""
