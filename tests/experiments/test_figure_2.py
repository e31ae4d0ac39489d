from __future__ import annotations

import json

import pytest
import zmanifold as zm

import figure_2


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure_2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            figure_2.zm, "make_helix", lambda **kwargs: zm.datasets.make_helix(300, **kwargs)
        )
        figure_2.main(out=folder)
    return folder


def test_it_draws(drawn):
    names = {path.name for path in drawn.iterdir()}
    assert names == {"figure_2.png", "figure_2.svg", "figure_2.json"}
    assert (drawn / "figure_2.png").read_bytes().startswith(b"\x89PNG")


def test_the_numbers_are_those_of_the_package(drawn):
    sidecar = json.loads((drawn / "figure_2.json").read_text())
    assert len(sidecar["plane"]) == 2 * (2 + len(figure_2.PLANE_GAMMAS))
    assert len(sidecar["n_mix"]) == len(figure_2.GRID_GAMMAS) * len(figure_2.GRID_T)
    X, y = zm.make_spirals(random_state=0)
    found = zm.mixed_set_metrics(X, y, *zm.mixed_set(X, y, zm.Mixup())).summary()
    row = next(r for r in sidecar["plane"] if (r["dataset"], r["mixer"]) == ("spirals", "mixup"))
    assert row["label_error"] == round(found["label_error"], 4)
    original, mixup, *zetas = (row["distance_to_curve"] for row in sidecar["helix"])
    assert original == 0
    assert zetas[-1] < mixup
