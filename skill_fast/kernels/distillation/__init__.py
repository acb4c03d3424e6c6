"""distillation: op.py is the contract, reference.py the definition, fused.py runs the Triton kernels of passes.py."""
