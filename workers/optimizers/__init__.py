"""One file per optimiser: `build(parameters, learning_rate, *, options) -> torch.optim.Optimizer`.

`learning_rate` becomes torch's `lr` in these files and nowhere else. Weight decay acts in the optimiser only:
the loss L that is measured, its gradient g and its Hessian H exclude it.
"""
