"""PyTorch's side of tools/benchmark.py: a training step of a prototypical network. Prints a JSON object.

Runs in the environment of requirements-peers.txt. The network is `tf_metalearn.backbones.conv4(downsample="max")`,
number by number.
"""

import argparse
import json

import numpy as np
import torch
from benchmark_torch import EPSILON, as_keras, assign
from stopwatch import milliseconds, peak_megabytes
from torch import nn
from torch.nn.functional import cross_entropy


def conv4() -> nn.Sequential:
    """Four blocks of 64 filters, each of which halves the image by max-pooling."""
    blocks = [
        [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64, EPSILON), nn.ReLU(), nn.MaxPool2d(2)]
        for channels in (1, 64, 64, 64)
    ]
    return nn.Sequential(*(layer for block in blocks for layer in block), nn.Flatten())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=["contiguous_format", "channels_last"], default="contiguous_format")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layout = getattr(torch, arguments.layout)

    arrays = {name: torch.from_numpy(array) for name, array in np.load(arguments.inputs).items()}
    network = conv4()
    assign(network, arrays["prototypical_conv4"])
    network.to(memory_format=layout)
    support_x, query_x = (arrays[f"prototypical_{part}_x"][0].movedim(-1, 1) for part in ("support", "query"))
    support_y, query_y = (arrays[f"prototypical_{part}_y"][0].long() for part in ("support", "query"))
    images = torch.cat([support_x, query_x]).contiguous(memory_format=layout)
    # One example of each class: its embedding is the prototype.
    order = torch.argsort(support_y)
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> float:
        optimizer.zero_grad()
        support, query = torch.split(network(images), [len(support_x), len(query_x)])
        distances = torch.cdist(query, support[order], compute_mode="use_mm_for_euclid_dist").square()
        loss = cross_entropy(-distances, query_y)
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
