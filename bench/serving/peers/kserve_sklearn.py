"""KServe's scikit-learn server as its repository has it, on the SDK: `kserve_sklearn.py MODEL.pkl PORT`.

(The server itself is not on PyPI; this is a kserve.Model that does what it does.)
"""

import sys

import cloudpickle
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class SKLearnModel(Model):
    def __init__(self, name, path):
        super().__init__(name)
        self.path = path

    def load(self):
        with open(self.path, "rb") as stream:  # noqa: PTH123 - as plain as it gets
            self.model = cloudpickle.load(stream)
        self.ready = True
        return self.ready

    def predict(self, payload, headers=None):
        return get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    model = SKLearnModel("model", sys.argv[1])
    model.load()
    ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1).start([model])
