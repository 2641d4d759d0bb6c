"""Pictures that are another library's arrays: taken and given back by DLPack, without a copy where both are on the CPU.

References: the array API standard's data interchange, https://data-apis.org/array-api/latest/design_topics/data_interchange.html
"""

import sys
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

_CPU = 1
"""kDLCPU."""


def array_of(picture: Any) -> Shaped[np.ndarray, "..."]:
    """Returns the array of an object that has `__dlpack__`, as PyTorch's tensors do.

    Raises:
      TypeError: If it has none, or its kind of number or device has no counterpart here.
    """
    if not hasattr(picture, "__dlpack__"):
        raise TypeError(f"a picture is an array, a Pillow image or a path, not {type(picture).__name__}")
    try:
        if picture.__dlpack_device__()[0] == _CPU:
            return np.from_dlpack(picture)
        return np.asarray(jax.dlpack.from_dlpack(picture))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"a {type(picture).__name__} that cannot be shared by DLPack ({error})") from error


def give_back(hr: Shaped[np.ndarray, "..."], picture: Any) -> Any:
    """Returns an array as what `picture` is, if its library takes DLPack; else as it is.

    The library is that of the array API's `__array_namespace__`, or the package of the class, as torch, which is there
    where its tensors are.
    """
    if hasattr(picture, "__array_namespace__"):
        library = picture.__array_namespace__()
    else:
        library = sys.modules.get(type(picture).__module__.partition(".")[0])
    return library.from_dlpack(hr) if hasattr(library, "from_dlpack") else hr  # pyright: ignore[reportOptionalMemberAccess]
