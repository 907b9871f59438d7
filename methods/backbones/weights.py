"""Published weights into an encoder that has more than they hold."""

from torch import Tensor, nn, no_grad

from benchmark.errors import UserError


def copy_weights(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Copy every entry of `state` into `module`; what the state lacks stays as it is.

    Raises:
        UserError: an entry is unknown to the module or has another shape; the message names the first.
    """
    own = module.state_dict()
    if wrong := [key for key, value in state.items() if key not in own or own[key].shape != value.shape]:
        raise UserError(f"The weights '{name}' do not fit this encoder (first at '{wrong[0]}'); choose others.")
    with no_grad():
        for key, value in state.items():
            own[key].copy_(value)
