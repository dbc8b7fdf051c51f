"""Garbage collection pauses while a command starts."""

from __future__ import annotations

import gc

import pytest

from s3prl_emotion.processes import collection


@pytest.mark.parametrize("own", [False, True])
def test_collection_pauses_and_goes_on(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setitem(collection._STATE, "own process", False)
    if own:
        collection.own_process()
    assert gc.isenabled()
    with collection.collection(False):
        assert not gc.isenabled()
        with collection.collection(True):
            assert gc.isenabled()
            with pytest.raises(KeyError), collection.collection(False):
                raise KeyError
            assert gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [True] * own
