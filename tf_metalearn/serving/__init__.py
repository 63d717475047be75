"""SavedModels for TensorFlow Serving: what `export` writes, how it is checked, and a client."""

from tf_metalearn.serving.client import Client, ServingError
from tf_metalearn.serving.rule import export_rule
from tf_metalearn.serving.verification import Check, verify_export

__all__ = ["Check", "Client", "ServingError", "export_rule", "verify_export"]
