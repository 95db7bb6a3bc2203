"""FID of stage 1 is measured by all processes together."""

from collections.abc import Callable

import pytest

MEASURE = """
from pathlib import Path
from types import SimpleNamespace
from torch import nn
from evaluation.metrics.choice import fid_metric
from models import Architecture, Prior
from train.stages.validation import PriorPictures

class Colours(nn.Module):
    num_features = 3
    def forward(self, images):
        return images.float().mean((2, 3))

class Faces:
    images = range(20)
    def __init__(self):
        self.read = []
    def __getitem__(self, index):
        self.read.append(index)
        random = torch.Generator().manual_seed(index)
        return SimpleNamespace(target=torch.randint(0, 256, (3, 32, 32), generator=random, dtype=torch.uint8))

torch.manual_seed(0)
architecture = Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)
faces = Faces()
data = SimpleNamespace(run_images=lambda *_, **__: faces)
training = SimpleNamespace(architecture=architecture, ema=Prior(architecture), fid_num_images=17)
settings = SimpleNamespace(seed=0, folder=Path("run"))
pictures = PriorPictures(training, SimpleNamespace(data=data, settings=settings))
"""


def test_each_process_reads_its_share_of_the_faces_and_all_get_the_distance_of_the_whole_set(
    in_two_processes: Callable[[str], list[list[float]]],
) -> None:
    first, second = in_two_processes(
        MEASURE
        + """
(distance,) = pictures._distances(fid_metric(Colours())).values()
shared = list(faces.read)
(again,) = pictures._distances(fid_metric(Colours())).values()
assert again == distance and faces.read == shared  # the faces' features are computed once
torch.distributed.destroy_process_group()
pictures._real_faces = None
print(json.dumps([distance, *pictures._distances(fid_metric(Colours())).values(), *shared]))
"""
    )
    assert first[0] == second[0] == pytest.approx(first[1], rel=1e-6) and first[0] > 0
    assert (first[2:], second[2:]) == (list(range(0, 17, 2)), list(range(1, 17, 2)))
