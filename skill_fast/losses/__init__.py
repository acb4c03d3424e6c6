"""Losses as pure functions of embeddings; what they need of other ranks is gathered by ``gather.gathered``."""
