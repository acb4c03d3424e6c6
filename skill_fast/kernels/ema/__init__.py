"""ema: op.py is the contract, reference.py the definition."""
