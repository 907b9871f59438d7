"""What is counted of networks without a card, and that other methods stay in the file."""

import json

from tests.speed import networks


def test_operations_and_parameters_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "published", lambda name: ["tiny"])
    path = tmp_path / "networks.json"
    path.write_text(json.dumps({"networks": {"another": {}}}))
    content = networks.write(path, ["cris"])
    assert json.loads(path.read_text()) == content
    assert [*content["networks"]] == ["another", "cris"]
    found = content["networks"]["cris"]["tiny"]
    assert found["gflops"] > 0 and found["parameters"] == found["trained_parameters"] > 1e5
