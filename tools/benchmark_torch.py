"""PyTorch's side of tools/benchmark.py: MAML with `torch.func`, all tasks at once by `vmap`. Prints a JSON object.

Runs in the environment of requirements-peers.txt, which has neither TensorFlow nor this library. The network is
`tf_metalearn.backbones.conv4(outputs=5)`, number by number.
"""

import argparse
import json

import numpy as np
import torch
from stopwatch import milliseconds, peak_megabytes
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import conv2d, cross_entropy, pad

EPSILON = 1e-3


class Convolution(nn.Module):
    """3 x 3 with strides of 2, padded as TensorFlow pads: what is left over goes to the right and to the bottom."""

    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(filters, channels, 3, 3))

    def forward(self, x):
        if x.shape[-1] % 2:
            return conv2d(x, self.weight, stride=2, padding=1)
        return conv2d(pad(x, (0, 1, 0, 1)), self.weight, stride=2)


class BatchNormalization(nn.Module):
    """By the batch's own statistics. Under `vmap`, second derivatives of `torch.nn.BatchNorm2d` are wrong."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))

    def forward(self, x):
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale = torch.rsqrt(variance + EPSILON) * self.weight[:, None, None]
        return centred * scale + self.bias[:, None, None]


class Conv4(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = [[Convolution(channels, 64), BatchNormalization(64), nn.ReLU()] for channels in (1, 64, 64, 64)]
        self.body = nn.Sequential(*(layer for block in blocks for layer in block))
        self.head = nn.Linear(256, 5)

    def forward(self, x):
        return self.head(self.body(x).permute(0, 2, 3, 1).flatten(1))


def as_keras(value):
    """A view of a parameter in Keras's layout."""
    return value.permute(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value


def assign(network, vector):
    """Gives a network the parameters that Keras's has, `[coordinates]`."""
    views = [as_keras(parameter.data) for parameter in network.parameters()]
    for view, piece in zip(views, torch.split(vector, [view.numel() for view in views]), strict=True):
        view.copy_(piece.reshape(view.shape))


def query_loss(network, inner_steps, rate):
    """`(parameters, task) -> loss`: the inner loop on the support set, and the loss of the query set after it."""

    def loss(parameters, x, y):
        return cross_entropy(functional_call(network, parameters, (x,)), y)

    def of_task(parameters, support_x, support_y, query_x, query_y):
        for _ in range(inner_steps):
            gradient = grad(loss)(parameters, support_x, support_y)
            parameters = {name: value - rate * gradient[name] for name, value in parameters.items()}
        return loss(parameters, query_x, query_y)

    return of_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs")
    parser.add_argument("--inner-steps", type=int, required=True)
    parser.add_argument("--inner-learning-rate", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=["contiguous_format", "channels_last"], default="contiguous_format")
    parser.add_argument("--tasks-at-once", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layout = getattr(torch, arguments.layout)

    arrays = np.load(arguments.inputs)
    network = Conv4()
    assign(network, torch.from_numpy(arrays["conv4"]))
    network.to(memory_format=layout)

    def images(name):
        x = torch.from_numpy(arrays[name]).movedim(-1, 2)
        return x.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, x.shape[:2])

    support_y, query_y = (torch.from_numpy(arrays[name]).long() for name in ("support_y", "query_y"))
    episode = (images("support_x"), support_y, images("query_x"), query_y)
    of_task = query_loss(network, arguments.inner_steps, arguments.inner_learning_rate)
    of_tasks = vmap(of_task, in_dims=(None, 0, 0, 0, 0), chunk_size=arguments.tasks_at_once)
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> float:
        optimizer.zero_grad()
        loss = of_tasks(parameters, *episode).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    loss = step()
    meta_gradient = torch.cat([as_keras(parameter.grad).flatten() for parameter in network.parameters()])
    result = {
        "value": milliseconds(step, seconds=3),
        "loss": loss,
        "meta_gradient": meta_gradient.tolist(),
        "memory": peak_megabytes(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
