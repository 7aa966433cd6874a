"""Tuning with Optuna: method, learning rate and the method's own option in one search.

pip install equipoise optuna
python examples/tuning_optuna.py
"""

from __future__ import annotations

import optuna
from tuning import METHODS, objective


def suggested(trial: optuna.Trial) -> float:
    method = trial.suggest_categorical("method", list(METHODS))
    lr = trial.suggest_float("lr", 1e-3, 3e-2, log=True)
    options = {"alpha": trial.suggest_float("alpha", 0.0, 2.0)} if method == "GradNorm" else {}
    return objective(method, lr, **options)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(suggested, n_trials=12)
    for method in METHODS:
        trials = [trial for trial in study.trials if trial.params["method"] == method]
        best = min(trials, key=lambda trial: trial.value)
        print(f"{method:10} lr {best.params['lr']:.4f}: {best.value:.1%} of the variance left open")


if __name__ == "__main__":
    main()
