#!/usr/bin/env python3
"""Writes model.joblib beside this script: a classifier for the iris data set that comes with scikit-learn.

    python3 -m venv /tmp/iris-model
    /tmp/iris-model/bin/pip install scikit-learn==1.6.1 joblib==1.5.3 numpy==2.0.2 scipy==1.13.1
    /tmp/iris-model/bin/python make_model.py

A pickled model belongs to the version that wrote it, so these are the versions that iris.yaml asks for. The same
versions write the same bytes.
"""

import sys
from pathlib import Path

import joblib
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

WANTED = "1.6.1"  # as in iris.yaml

if sklearn.__version__ != WANTED:
    sys.exit(f"scikit-learn {sklearn.__version__} is installed, the server that loads the model has {WANTED}")

flowers, species = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(flowers, species)

path = Path(__file__).with_name("model.joblib")
joblib.dump(model, path)
right = model.score(flowers, species)
print(f"{path}: {path.stat().st_size} bytes, right about {right:.1%} of the flowers it learned from")
