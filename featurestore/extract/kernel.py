"""How every kernel is compiled: once per machine, and kept."""

from __future__ import annotations

import numba

# contraction (fused multiply-add) only: sums keep the order they are written in
KERNEL = numba.njit(cache=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
