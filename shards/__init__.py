"""Catalogue of product photographs -> WebDataset tars keyed by product, with an index that is the authority."""
