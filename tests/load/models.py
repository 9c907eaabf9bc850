"""Small real MLflow models that a model server can load."""

import warnings


def save(folder, answer):
    """A classifier of two numbers that always answers with the same class."""
    with warnings.catch_warnings():
        # MLflow warns of its own type hints while it is imported, and of integer columns while it infers a schema.
        warnings.simplefilter("ignore")
        import mlflow.sklearn
        import numpy as np
        from mlflow.models import infer_signature
        from sklearn.dummy import DummyClassifier

        numbers = np.array([[0.0, 1.0], [1.0, 0.0]])
        model = DummyClassifier(strategy="constant", constant=answer).fit(numbers, [0, 1])
        signature = infer_signature(numbers, model.predict(numbers))
        mlflow.sklearn.save_model(
            model, folder, signature=signature, pip_requirements=["scikit-learn"], serialization_format="skops"
        )
    return folder


def save_two(folder):
    """Two of them, which answer 0 and 1."""
    return [save(folder / f"model-{answer}", answer) for answer in (0, 1)]
