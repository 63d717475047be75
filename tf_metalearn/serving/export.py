"""Exports learners, classifiers and rules as versions of models for TensorFlow Serving."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_metalearn.serving import archive, card, warm_up
from tf_metalearn.serving.load_check import Request
from tf_metalearn.serving.pictures import PictureFormat
from tf_metalearn.serving.service import ClassifierService, Service
from tf_metalearn.serving.signatures import classifier_signatures, learner_signatures


def export_learner(path: str | Path, service: Service, about: str, ink: bool) -> Path:
    """Writes a learner as a version of a model; see `ServedModel.export`.

    Args:
        path: Of the version.
        service: The learner.
        about: What its README says before the signatures.
        ink: Whether dark pixels of encoded images become 1.

    Returns:
        The version's folder.
    """
    version = archive.check_version_folder(path)
    form = picture_format(service.query_shape, ink)
    signatures = learner_signatures(service, form)
    requests = warm_up.learner_requests(signatures, service, form)
    examples = card.learner_examples(version.parent.name, service, form)
    expected = warm_up.expected_of_learner(service, requests, form)
    return write(version, signatures, service.variables, requests, expected, about, examples, form)


def export_classifier(path: str | Path, service: ClassifierService, about: str, ink: bool) -> Path:
    """Writes a classifier of one task as a version of a model; see `ServedModel.export`.

    Args:
        path: Of the version.
        service: The classifier.
        about: What its README says before the signatures.
        ink: Whether dark pixels of encoded images become 1.

    Returns:
        The version's folder.
    """
    version = archive.check_version_folder(path)
    form = picture_format(service.shape, ink)
    signatures = classifier_signatures(service, form)
    requests = warm_up.classifier_requests(signatures, form)
    examples = card.classifier_examples(version.parent.name, service.shape, form)
    expected = warm_up.expected_of_classifier(service, requests, form)
    return write(version, signatures, service.variables, requests, expected, about, examples, form)


def write(
    version: Path,
    signatures: Mapping[str, Any],
    variables: Sequence[Any],
    requests: Sequence[Request],
    expected: Mapping[str, Any],
    about: str,
    examples: str,
    form: PictureFormat | None = None,
) -> Path:
    """Writes a version, and what stands beside it.

    Args:
        version: Its folder, not there yet.
        signatures: Functions by name.
        variables: Whatever they read.
        requests: For warming up.
        expected: What is answered to them in Python.
        about: What the README says before the signatures.
        examples: What it says after them.
        form: Of encoded images; None if it takes none.
    """
    version.parent.mkdir(parents=True, exist_ok=True)
    archive.write_version(version, signatures, variables, requests, expected, form)
    text = card.readme(version.parent.name, about, signatures, examples)
    archive.write_if_ours(version.parent / "README.md", text)
    archive.write_server_files(version.parent.parent)
    return version


def picture_format(shape: Sequence[int | None], invert: bool) -> PictureFormat | None:
    """What encoded images must become for examples of a shape; None if these are no images.

    Args:
        shape: `[height, width, channels]`, or something else.
        invert: Whether dark pixels become 1.
    """
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3):
        return None
    height, width, channels = (int(size) for size in shape if size is not None)
    return PictureFormat(height, width, channels, invert)
