"""The README beside a served model: what it is, what it takes and returns, and how to ask it."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from tf_metalearn.serving.archive import MARK
from tf_metalearn.serving.pictures import PictureFormat
from tf_metalearn.serving.service import Service


def readme(name: str, about: str, signatures: Mapping[str, Any], examples: str) -> str:
    """The text of a model's README.

    Args:
        name: Of the model.
        about: Its card, as Markdown: data, training, accuracy, licence.
        signatures: Functions by name.
        examples: How to ask it, as Markdown.
    """
    lines = [f"<!-- {MARK.removeprefix('# ')} -->", f"# {name}", about.strip(), "## Signatures"]
    rows = ["| signature | takes | returns |", "|---|---|---|"]
    for signature, function in signatures.items():
        concrete = function.get_concrete_function()
        specs = [spec for spec in tf.nest.flatten(concrete.structured_input_signature) if spec is not None]
        taken = _tensors((spec.name, spec) for spec in specs)
        returned = _tensors(sorted(concrete.structured_outputs.items()))
        rows.append(f"| `{signature}` | {'<br>'.join(taken)} | {'<br>'.join(returned)} |")
    return "\n\n".join(filter(None, [*lines, "\n".join(rows), examples.strip()])) + "\n"


CLASSIFICATION = """
`support_x` are the examples of each task, `support_y` their labels, any whole numbers from 0 on, of {classes};
`query_x` is what to classify. The first axis is the task. What is wrong with one task is said in its `error`, which is
empty otherwise, and its neighbours are answered all the same. Where tasks have unequal numbers of classes, the columns
of `probabilities` beyond a task's own are 0, and its `classes` there are -1 (empty text where labels are text).
"""

REGRESSION = """
`support_x` are the examples of each task, `support_y` their values; `query_x` are the places whose values are
predicted, in `outputs`. The first axis is the task. What is wrong with one task is said in its `error`, which is empty
otherwise, and its neighbours are answered all the same.
"""

LEARNER_OF_PICTURES = """
### Pictures

Encoded images are {form}.
Any size will do, as PNG, JPEG, GIF or BMP. With Python, over gRPC, of a folder `letters` that has a folder of pictures
for each class, and a folder `unknown` of pictures to tell apart:

```python
from pathlib import Path
from tf_metalearn.serving import Client

support, queries = sorted(Path("letters").glob("*/*.png")), sorted(Path("unknown").glob("*.png"))
labels = [path.parent.name for path in support]
answer = Client("localhost:8500").adapt_and_predict("{name}", support, labels, queries)
print(dict(zip([path.name for path in queries], answer["label"])), answer["error"])
```

With anything, over REST; this writes a request that `curl` sends:

```
python -c 'import base64, json, pathlib
def read(paths): return [{{"b64": base64.b64encode(path.read_bytes()).decode()}} for path in paths]
support, queries = sorted(pathlib.Path("letters").glob("*/*.png")), sorted(pathlib.Path("unknown").glob("*.png"))
print(json.dumps({{"signature_name": "serve_bytes_strings", "inputs": {{"support_bytes": [read(support)],
    "support_y": [[path.parent.name for path in support]], "query_bytes": [read(queries)]}}}}))' > request.json
curl -d @request.json localhost:8501/v1/models/{name}:predict
```

### Arrays
"""

CLASSIFIER_OF_PICTURES = """
### Pictures

Encoded images are {form}.
Any size will do, as PNG, JPEG, GIF or BMP. With Python, over gRPC, of a folder `unknown` of pictures to tell apart:

```python
from pathlib import Path
from tf_metalearn.serving import Client

pictures = sorted(Path("unknown").glob("*.png"))
answer = Client("localhost:8500").predict("{name}", pictures)
print(dict(zip([path.name for path in pictures], answer["label"])), answer["error"])
```

With anything, over REST; this writes a request that `curl` sends:

```
python -c 'import base64, json, pathlib
pictures = [path.read_bytes() for path in sorted(pathlib.Path("unknown").glob("*.png"))]
print(json.dumps({{"signature_name": "serve_bytes",
    "instances": [{{"b64": base64.b64encode(picture).decode()}} for picture in pictures]}}))' > request.json
curl -d @request.json localhost:8501/v1/models/{name}:predict
```

### Arrays
"""


def learner_examples(name: str, service: Service, form: PictureFormat | None) -> str:
    """How to ask a served learner.

    Args:
        name: Of the model.
        service: The learner.
        form: Of encoded images; None if it takes none.
    """
    one, other = (list(shape) for shape in (service.support_shape, service.query_shape))
    outputs, ways = service.outputs, min(5, service.most_classes or 5)
    labels = f"{[list(range(ways))]}" if outputs is None else f"np.zeros({[1, ways, outputs]}).tolist()"
    shown = '"label"], answer["probabilities"' if outputs is None else '"outputs"'
    classes = "any number of classes" if service.most_classes is None else f"at most {service.most_classes} classes"
    pictures = ""
    if form is not None:
        # A zero-shot learner has no pictures in its support set.
        text = LEARNER_OF_PICTURES if len(one) == 3 else "\nEncoded images of queries are {form}.\n"
        pictures = text.format(form=form.described(), name=name)
    return f"""
## Ask it
{CLASSIFICATION.format(classes=classes) if outputs is None else REGRESSION}{pictures}
With Python, over gRPC:

```python
import numpy as np
from tf_metalearn.serving import Client

support_x, query_x = np.zeros({[1, ways, *one]}), np.zeros({[1, 3, *other]})  # yours
answer = Client("localhost:8500").adapt_and_predict("{name}", support_x, {labels}, query_x)
print(answer[{shown}], answer["error"])
```

With anything, over REST; this writes a request that `curl` sends:

```
python -c 'import json, numpy as np
print(json.dumps({{"inputs": {{"support_x": np.zeros({[1, ways, *one]}).tolist(), "support_y": {labels},
    "query_x": np.zeros({[1, 3, *other]}).tolist()}}}}))' > request.json
curl -d @request.json localhost:8501/v1/models/{name}:predict
```
"""


def classifier_examples(name: str, shape: tuple[int | None, ...], form: PictureFormat | None) -> str:
    """How to ask a served classifier.

    Args:
        name: Of the model.
        shape: Of an example.
        form: Of encoded images; None if it takes none.
    """
    return f"""
## Ask it
{"" if form is None else CLASSIFIER_OF_PICTURES.format(form=form.described(), name=name)}
With Python, over gRPC:

```python
import numpy as np
from tf_metalearn.serving import Client

answer = Client("localhost:8500").predict("{name}", np.zeros({[3, *shape]}))
print(answer["label"], answer["probabilities"])
```

With anything, over REST; this writes a request that `curl` sends:

```
python -c 'import json, numpy as np
print(json.dumps({{"instances": np.zeros({[3, *shape]}).tolist()}}))' > request.json
curl -d @request.json localhost:8501/v1/models/{name}:predict
```
"""


def _tensors(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Tensors in words; those that differ in their number alone, such as `state_0` and `state_1`, in one line."""
    lines = []
    for (_, tensor), group in itertools.groupby(named, lambda pair: (re.sub(r"_\d+$", "_", pair[0]), _kind(pair[1]))):
        names = [f"`{name}`" for name, _ in group]
        lines.append(f"{names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'} {tensor}")
    return lines


def _kind(value: Any) -> str:
    shape = "unknown" if value.shape.rank is None else [size if size else "any" for size in value.shape.as_list()]
    return f"{value.dtype.name} {str(shape).replace(chr(39), '')}"
