from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import equipoise as eq
from tests.optim.training import TwoHeads, assert_equal_models, batches, train

USER_PROGRAM = """
import torch
import equipoise as eq

model = torch.nn.Linear(2, 2)
opt = eq.create_optimizer("mtadam", model.parameters(), lr=1e-3)
a, b = model(torch.ones(3, 2)).square().mean(dim=0)
losses = {"a": a, "b": b}
opt.zero_grad()
opt.backward(losses)
opt.step()
scheduler = torch.optim.lr_scheduler.StepLR(opt, 2)
names: list[str] = eq.list_optimizers()
skipped: int = opt.skipped
by_name: torch.optim.Optimizer = eq.create_optimizer("AutoBalance", model.named_parameters())
"""


def test_every_listed_name_is_an_optimizer_of_the_package():
    for name in eq.list_optimizers():
        made = eq.create_optimizer(name, [torch.ones(2).requires_grad_()])
        assert isinstance(made, torch.optim.Optimizer)
        assert type(made).__name__ in eq.__all__
        assert type(made).__name__.lower() == name


@pytest.mark.parametrize("name", ["mtadam", "MTAdam", "MT-Adam", "mt_adam"])
def test_names_are_read_in_any_case_and_spelling(name):
    optimizer = eq.create_optimizer(name, nn.Linear(2, 2).named_parameters(), lr=0.5)
    assert isinstance(optimizer, eq.MTAdam)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_made_by_name_it_trains_as_the_class():
    one, other = TwoHeads(), TwoHeads()
    train(one, eq.AutoBalance(one.parameters(), lr=0.01), batches(3))
    train(other, eq.create_optimizer("autobalance", other.parameters(), lr=0.01), batches(3))
    assert_equal_models(one, other)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no optimizer 'mtadamw'.*Did you mean 'mtadam'"):
        eq.create_optimizer("mtadamw", [torch.ones(2).requires_grad_()])


@pytest.mark.parametrize("name", ["gradnorm", "Soft-Adapt"])
def test_a_balancer_is_told_to_be_made_by_the_other_function(name):
    with pytest.raises(ValueError, match=rf"'{name}' is a balancer.*create_balancer\('{name}'"):
        eq.create_optimizer(name, [torch.ones(2).requires_grad_()])


@pytest.mark.parametrize("name", ["mtadam", "AutoBalance"])
def test_create_balancer_says_that_an_optimizer_is_none(name):
    with pytest.raises(ValueError, match=rf"not a balancer.*create_optimizer\('{name}'"):
        eq.create_balancer(name, 2)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="momentum"):
        eq.create_optimizer("mtadam", [torch.ones(2).requires_grad_()], momentum=0.9)


@pytest.mark.slow
def test_a_users_program_is_well_typed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(USER_PROGRAM)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
