"""One training script, unchanged under minidl and under PyTorch: names, defaults and numbers agree."""

from __future__ import annotations

import numpy as np
import pytest

import minidl

SCRIPT = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.middle = nn.Conv2d(4, 8, kernel_size=3, padding="same")
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Conv2d(8, classes, 1)
        self.drop = nn.Dropout(0.0)

    def forward(self, x):
        skip = F.interpolate(self.down(x), scale_factor=2, mode="bilinear", align_corners=False)
        deep = F.leaky_relu(self.norm(self.middle(self.down(x))), 0.01)
        return self.head(torch.cat([skip, self.drop(self.up(deep))], dim=1))


def overlap(logits, labels, classes):
    probabilities = torch.softmax(logits, dim=1).flatten(2)
    truth = torch.stack([(labels == c).float() for c in range(classes)], dim=1).flatten(2)
    shared = (probabilities * truth).sum(-1)
    return (2 * shared / (probabilities + truth).sum(-1).clamp(min=1e-3)).mean()


def train(images, labels, weights, steps):
    torch.manual_seed(0)
    classes = int(labels.max()) + 1
    net = Net(classes)
    net.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0]))
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)

    net.train()
    losses = []
    for step in range(steps):
        part = slice(step % 2 * 2, step % 2 * 2 + 2)
        optimizer.zero_grad()
        logits = net(images[part])
        loss = criterion(logits, labels[part]) + 0.5 * (1 - overlap(logits, labels[part], classes))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), max_norm=5.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())

    net.eval()
    with torch.no_grad():
        predicted = net(images).argmax(dim=1)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return losses, predicted.numpy(), scheduler.get_last_lr(), state
"""


def train(library, *arguments):
    scope = {"__name__": "script"}
    exec(SCRIPT.replace("import torch", f"import {library}").replace("torch.", f"{library}."), scope)
    return scope["train"](*arguments)


@pytest.fixture(scope="module")
def problem():
    """Images of three grey levels under noise, and the weights from which both libraries start."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 1, 4, 4)).repeat(3, 2).repeat(3, 3)[:, 0]
    images = (labels[:, None] + 0.3 * rng.standard_normal((4, 1, 12, 12))).astype(np.float32)
    minidl.manual_seed(1)
    scope = {"__name__": "script"}
    exec(SCRIPT.split("def overlap")[0].replace("torch", "minidl"), scope)
    return images, labels, {key: t.numpy().copy() for key, t in scope["Net"](3).state_dict().items()}


def test_the_script_learns(problem):
    losses, predicted, rate, _ = train("minidl", *problem, 40)
    assert losses[-1] < 0.6 * losses[0]
    assert (predicted == problem[1]).mean() > 0.7
    assert rate == [0.0]


def test_the_first_20_losses_agree_with_pytorch(problem):
    from oracle import torch

    assert torch
    ours, theirs = (train(library, *problem, 20) for library in ("minidl", "torch"))
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
    assert (ours[1] == theirs[1]).mean() > 0.99
    assert ours[2] == pytest.approx(theirs[2])
    assert list(ours[3]) == list(theirs[3])
    for key, value in theirs[3].items():
        np.testing.assert_allclose(ours[3][key], value, rtol=1e-2, atol=1e-3, err_msg=key)
