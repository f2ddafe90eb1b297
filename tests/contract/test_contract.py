"""The contract, held against every registered model. What each check is: `gemello.model.conformance`."""

from __future__ import annotations

import pytest

from gemello.model import registry
from gemello.model.conformance import check_names, conformance


@pytest.mark.parametrize("check", check_names())  # changes first, so that a model's compiled programs serve all its checks
@pytest.mark.parametrize("name", registry.models())
def test_contract(name: str, check: str) -> None:
    (outcome,) = conformance(registry.get(name), only=[check])
    assert outcome.passed, outcome.detail
