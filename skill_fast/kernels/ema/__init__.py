"""ema: op.py is the contract, reference.py the definition, fused.py the Triton kernels."""
