"""Tuning with Optuna: a study for each method, with as many trials as the plain sum has.

pip install equipoise optuna
python examples/tuning_optuna.py  # beside tuning.py
"""

from __future__ import annotations

from functools import partial

import optuna
from tuning import METHODS, objective


def suggested(trial: optuna.Trial, method: str) -> float:
    lr = trial.suggest_float("lr", 1e-3, 3e-2, log=True)
    options = {"alpha": trial.suggest_float("alpha", 0.0, 2.0)} if method == "GradNorm" else {}
    return objective(method, lr, **options)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for method in METHODS:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(partial(suggested, method=method), n_trials=5)
        lr, left = study.best_params["lr"], study.best_value
        print(f"{method:10} lr {lr:.4f}: {left:.1%} of the variance left open")


if __name__ == "__main__":
    main()
