"""The README beside a served model: what it is, what it takes and returns, and how to ask it."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_metalearn.serving.archive import MARK
from tf_metalearn.serving.pictures import PictureFormat


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
        taken = [_tensor(spec.name, spec) for spec in specs]
        returned = [_tensor(output, value) for output, value in sorted(concrete.structured_outputs.items())]
        rows.append(f"| `{signature}` | {'<br>'.join(taken)} | {'<br>'.join(returned)} |")
    return "\n\n".join([*lines, "\n".join(rows), examples.strip()]) + "\n"


CLASSIFICATION = """
`support_x` are the examples of each task, `support_y` their labels, any whole numbers from 0 on; `query_x` is what to
classify. The first axis is the task. What is wrong with one task is said in its `error`, which is empty otherwise, and
its neighbours are answered all the same. Where tasks have unequal numbers of classes, the columns of `probabilities`
beyond a task's own are 0, and its `classes` there are -1 (empty text where labels are text).
"""

REGRESSION = """
`support_x` are the examples of each task, `support_y` their values; `query_x` are the places whose values are
predicted, in `outputs`. The first axis is the task. What is wrong with one task is said in its `error`, which is empty
otherwise, and its neighbours are answered all the same.
"""


def learner_examples(
    name: str,
    support: tuple[int | None, ...],
    query: tuple[int | None, ...],
    form: PictureFormat | None,
    ways: int = 5,
    outputs: int | None = None,
) -> str:
    """How to ask a served learner.

    Args:
        name: Of the model.
        support: The shape of a support example.
        query: The shape of a query.
        form: Of encoded images; None if it takes none.
        ways: Classes of the example.
        outputs: Of a regression; None where classes are told apart.
    """
    one, other = (list(shape) for shape in (support, query))
    labels = f"{[list(range(ways))]}" if outputs is None else f"np.zeros({[1, ways, outputs]}).tolist()"
    shown = '"label"], answer["probabilities"' if outputs is None else '"outputs"'
    return f"""
## Ask it
{CLASSIFICATION if outputs is None else REGRESSION}{_pictures(form)}
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
{_pictures(form)}
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


def _pictures(form: PictureFormat | None) -> str:
    """What becomes of encoded images, as a paragraph."""
    if form is None:
        return ""
    colours = f"{'grey' if form.channels == 1 else 'red, green and blue'}, from 0 to 1"
    return (
        f"\nEncoded images are resized to {form.height} x {form.width}, {colours}"
        f"{', dark pixels as 1: ink on paper' if form.invert else ''}.\n"
    )


def _tensor(name: str, value: Any) -> str:
    shape = "unknown" if value.shape.rank is None else [size if size else "any" for size in value.shape.as_list()]
    return f"`{name}` {value.dtype.name} {str(shape).replace(chr(39), '')}"
