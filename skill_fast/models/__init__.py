"""Backbones by timm name, projection heads, the multi-crop forward, and the encoder that evaluation loads."""
