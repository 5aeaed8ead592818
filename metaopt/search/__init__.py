"""The search: a study file, Optuna's proposals, Ray's workers, and the record of what came out."""
