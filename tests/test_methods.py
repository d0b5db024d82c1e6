"""The table of methods: the losses take exactly its options, and every value is checked by it."""

import inspect
import types
import typing

import pytest

from simct import losses
from simct.errors import ConfigError
from simct.methods import DIVERGENCES, METHODS, LossOptions, checked_options
from simct.setting import settings_of


def kinds(annotation) -> set[type]:
    """The plain types that an annotation names, without limits."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return set().union(*(kinds(each) for each in typing.get_args(annotation)))
    if typing.get_origin(annotation) is typing.Annotated:
        return kinds(typing.get_args(annotation)[0])
    return {annotation}


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_takes_the_options_of_the_table_by_name(name):
    method = METHODS[name]
    parameters = inspect.signature(losses.MODULES[name].accumulate).parameters.values()
    taken = {each.name: each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert tuple(taken) == method.own_options
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    for option, parameter in taken.items():
        field = method.options.model_fields[option]
        assert kinds(parameter.annotation) == kinds(field.annotation), option
        assert parameter.default == field.default and type(parameter.default) is type(field.default), option
    given = [each.name for each in parameters if each.name not in taken]
    assert given == ["pair", "units", "student", "teacher", "settings"]


def test_the_table_is_complete_and_cannot_be_changed():
    assert set(METHODS) == set(losses.MODULES)
    for name, method in METHODS.items():
        assert method.name == name and method.divergence in (None, *DIVERGENCES)
        assert method.title and method.line and method.source and method.paragraph.startswith("**")
        assert "\n" not in method.line
        for option, setting in settings_of(method.options).items():
            assert setting.title and setting.help.endswith(".") and setting.allowed, option
    with pytest.raises(TypeError):
        METHODS["new"] = METHODS["simct"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_what_is_not_its_own(name):
    with pytest.raises(ConfigError, match=f"^method_options: Unknown option 'nothing' of method '{name}'"):
        checked_options(name, {"nothing": 1}, "method_options")
    with pytest.raises(ConfigError, match=r"^beta is 1.0; it must be above 0 and below 1\.$"):
        checked_options(name, {"beta": 1})
    assert checked_options(name, {}) == METHODS[name].options()


@pytest.mark.parametrize(
    ("given", "value"),
    [(True, True), (False, False), ("true", True), ("False", False), (0.3, 0.3), ("0.5", 0.5), (0, 0.0)],
)
def test_the_mass_mask_is_a_switch_or_a_number(given, value):
    mask = checked_options("simct", {"mass_mask": given}).mass_mask
    assert mask == value and type(mask) is type(value)


@pytest.mark.parametrize(
    ("method", "options", "line"),
    [
        ("simct", {"mass_mask": 1.5}, "mass_mask is 1.5; it must be true or false, or 0 or more and below 1."),
        ("simct", {"mass_mask": None}, "mass_mask: expected true or false, or a number, got None."),
        ("simct", {"scoring": "x" * 200}, f"scoring is '{'x' * 78}…; it must be one of log_probs, raw_logits."),
        ("simct", {"option_seed": -1}, "option_seed is -1; it must be 0 or more and at most 4,294,967,295."),
        ("strict", {"top_k": 1.5}, "top_k: expected a whole number, got 1.5."),
        ("strict", {"top_k": True}, "top_k: expected a whole number, got True."),
        ("alm", {"chunk_temperature": "nan"}, "chunk_temperature is nan; it must be above 0 and at most 1,000,000."),
        ("uld", {"aligned": 1}, "aligned: expected true or false, got 1."),
        ("gold", {"matched_weight": 1}, "gold needs both matched_weight and unmatched_weight, or neither."),
    ],
)
def test_a_wrong_option_is_one_line(method, options, line):
    with pytest.raises(ConfigError) as caught:
        checked_options(method, options)
    assert str(caught.value) == line


def test_there_is_no_option_of_every_method_that_one_has_of_its_own():
    for method in METHODS.values():
        assert not set(method.own_options) & set(LossOptions.model_fields)
